"""Runs under chaos: one task, four nodes and its aggregators as processes on Anvil, and faults drawn from a seed.

Run PYTHONPATH=tests python -m support.chaos [--first 0] [--seeds 200] [--format text|json] [--keep].

Every second seed commits in batches over HTTP. Faults: reorganisations of one to five blocks; transactions that are
swallowed, sent twice, or forwarded without an answer; the chain stopped and started with its state; content that is
lost or damaged for some time; nodes and the aggregator killed with SIGKILL, the aggregator once in a phase that follows
from the seed, in the middle of a step. Of every four seeds two have a standby, and there the aggregator killed in that
phase never comes back. Of every three seeds two have strangers: one posts tasks with something wrong in them, plays
nonsense in them and calls the ledger with odd arguments; many connections from which nothing sensible comes keep the
aggregators' mailboxes busy; and a batched task has one more standby, whose mailbox answers a byte now and then. Of
every five seeds two have a court: a challenge window, four verifiers that may be killed like nodes, and somebody who
challenges every proposal without cause.

A run must end, in time, as the undisturbed run does: the same final model, three settled rounds and none voided, the
same credit for every owner, every stake in its place, and all money that the contract holds accounted for. Every
challenge is upheld, and no verifier is fined.

What no protocol can promise is kept out: deadlines are long (ten minutes; a reorganisation must not change who was in
time), content that is gone comes back before the aggregator's patience ends, and no reorganisation reaches below the
posting of the task, or below a restart, whose older states Anvil does not have. Time passes by itself only where an
aggregator is gone and nobody has anything left to do. A program that has left because the
task had ended is started again if a reorganisation takes the end back; confirmations make it wait instead.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Lock
from pathlib import Path
from typing import Any

import torch
from eth_utils.crypto import keccak

from fedledger.aggregator.driver import Aggregator
from fedledger.aggregator.mailbox.http_server import serving
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import ChainProcess, free_port, start_chain
from fedledger.contracts.ledger.access import Access, TaskAccess
from fedledger.contracts.ledger.actor import Step
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import DisputeStatus, Phase, Settings
from fedledger.ledger_tools.deploy import deploy
from fedledger.ledger_tools.verifier.context import Service
from fedledger.ledger_tools.verifier.verifier import Verifier
from fedledger.node.mailbox_client import HttpMailboxClient
from fedledger.node.participant import Participant
from fedledger.platform.experiment.accounts import (
    AGGREGATOR,
    DEPLOYER,
    PUBLISHER,
    experiment_account,
    participant_role,
    standby_role,
    verifier_role,
)
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.checked_data import least_stake
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.errors import ChainError
from fedledger.protocol.units import GWEI
from fedledger.storage.addresses import DEVELOPMENT, Networks
from fedledger.storage.local import LocalStore
from support.chaos_strangers import crowd, poster, strangers, trickling_mailbox
from support.small import write_config

NODES, ROUNDS, TASK = 4, 3, 1
AGGREGATORS = (AGGREGATOR, standby_role(0))
TRICKLING = standby_role(1)
VERIFIERS, CHALLENGER = 4, "challenger"
DEADLINE, COURT_DEADLINE = 60.0, 240.0
POLL = 0.02
PATIENCE = 30.0
ETHER = 10**18
PHASES = (
    *(Phase.ENROLLING, Phase.COMMITTING, Phase.REVEALING, Phase.PROPOSING),
    *(Phase.CHALLENGING, Phase.SETTLEABLE, Phase.IDLE),
)
"""Phases in which the aggregator is killed, in turn by seed."""
STALL, LEAP = 3.0, 300
"""Seconds without a transaction after which time passes where an aggregator is gone, and how many pass."""
FAULTS = {"reorganised": 5, "killed a node": 3, "killed the aggregator": 2, "restarted": 1, "lost": 2, "damaged": 2}
"""Faults and how often they are drawn."""
WIRE_FAULTS = ("swallowed", "sent twice", "not answered")
FORK = multiprocessing.get_context("fork")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is to happen in a run; gaps in seconds since the fault before."""

    seed: int
    faults: tuple[tuple[float, str], ...]
    phase: Phase | None
    round: int
    wire: float
    wire_faults: int
    batched: bool = False
    standby: bool = False
    strangers: bool = False
    court: bool = False

    @classmethod
    def undisturbed(cls) -> Plan:
        return cls(-1, (), None, 0, 0.0, 0)

    @classmethod
    def draw(cls, seed: int) -> Plan:
        rng = random.Random(seed)
        kinds = rng.choices(list(FAULTS), list(FAULTS.values()), k=rng.randint(4, 9))
        faults = tuple((rng.uniform(0.02, 0.35), kind) for kind in kinds)
        phase, index, wire = PHASES[seed % len(PHASES)], rng.randint(1, ROUNDS), rng.choice((0.0, 0.1, 0.3))
        kinds_of_run = {
            "batched": seed % 2 == 1,
            "standby": seed % 4 >= 2,
            "strangers": seed % 3 != 2,
            "court": seed % 5 >= 3,
        }
        return cls(seed, faults, phase, index, wire, 8, **kinds_of_run)


@dataclass
class Outcome:
    """How a run ended."""

    seed: int
    seconds: float = 0.0
    model: str = ""
    credits: dict[str, int] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class World:
    """Where a run takes place, as its programs see it."""

    folder: Path
    experiment: Experiment
    plan: Plan
    url: str
    address: str
    first_block: int
    ports: tuple[int, ...]

    def ledger(self) -> Ledger:
        return Ledger(Chain(self.url), self.address, self.first_block)

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "store")

    def access(self, role: str) -> TaskAccess:
        ledger = self.ledger()
        account = experiment_account(0, role, ledger.chain)
        return TaskAccess(ledger, History(ledger), account, self.store, TASK, self.experiment.spec)


def node(world: World, number: int) -> None:
    """Be a node until the task ends."""
    access = world.access(participant_role(number))
    journal, trainer = world.folder / f"journal{number}", world.experiment.trainer(number)
    mailbox = HttpMailboxClient(access.history, TASK, Networks.read(DEVELOPMENT))
    Participant(access, journal, trainer, mailbox).run(POLL, patience=PATIENCE)


class Mortal(Aggregator):
    """An aggregator that is killed in the plan's phase, in the middle of a step."""

    plan: Plan
    mark: Path

    def step(self) -> Step:
        plan, ledger = self.plan, self.access.ledger
        if not self.mark.exists() and ledger.phase(TASK) is plan.phase:
            rounds = max(self.access.history.update().task(TASK).rounds, default=0)
            if plan.phase is Phase.ENROLLING or rounds >= plan.round:
                self.mark.write_text(plan.phase.name)
                delay = random.Random(plan.seed).uniform(0.0, 0.03)
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return super().step()


def aggregator(world: World, place: int) -> None:
    """Be one of the aggregators until the task ends, or until the plan's phase."""
    access = world.access(AGGREGATORS[place])
    with ExitStack() as stack:
        mailbox, url = None, None
        if world.plan.batched:
            folder = world.folder / f"mailbox{place}"
            mailbox = Mailbox(access.ledger, History(access.ledger), TASK, folder, world.store)
            stack.enter_context(serving(mailbox, "127.0.0.1", world.ports[place]))
            url = f"http://127.0.0.1:{world.ports[place]}"
        kind = Mortal if place == 0 and world.plan.phase is not None else Aggregator
        program = kind(access, world.experiment.measurer(), mailbox, PATIENCE, url)
        if isinstance(program, Mortal):
            program.plan, program.mark = world.plan, world.folder / "killed"
        program.run(POLL, patience=PATIENCE)


def verifier(world: World, number: int) -> None:
    """Be a verifier until the task and all disputes about it have ended."""
    ledger = world.ledger()
    account = experiment_account(0, verifier_role(number), ledger.chain)
    access = Access(ledger, History(ledger), account, world.store)
    service = Service(frozenset({TASK}), patience=PATIENCE, courtesy=0.5, jobs=1)
    program = Verifier(access, service, world.folder / f"votes{number}")
    try:
        program.run(POLL, patience=PATIENCE)
    finally:
        program.close()


def challenger(world: World) -> None:
    """Challenge every proposal of the task, without cause."""
    ledger = world.ledger()
    account, history = experiment_account(0, CHALLENGER, ledger.chain), History(ledger)
    while True:
        time.sleep(POLL)
        try:
            disputed = {dispute.round for dispute in history.update().disputes if dispute.task == TASK}
            for current in history.task(TASK).unfinal:
                fresh = current.proposal is not None and current.index not in disputed
                if fresh and ledger.has_judges(TASK, current.index):
                    ledger.challenge_round(account, TASK, current.index)
        except ChainError:
            # It is too early, too late, or the chain was reorganised.
            continue


def proxy(port: int, to: int, plan: Plan, folder: Path, gate: Lock) -> None:
    """Stand between programs and chain, and mistreat transactions as the plan says; none passes a closed gate."""
    rng, lock, counts = random.Random(plan.seed), threading.Lock(), Counter[str]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_transaction = b"eth_sendRawTransaction" in body
            fault = draw() if is_transaction else None
            try:
                if fault == "swallowed":
                    question = json.loads(body)
                    digest = keccak(bytes.fromhex(question["params"][0][2:])).hex()
                    answer = json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": "0x" + digest}).encode()
                else:
                    with gate if is_transaction else nullcontext():
                        answer = forward(body)
                        if fault == "sent twice":
                            answer = forward(body)
            except (OSError, HTTPException):
                fault = "not answered"
            if fault == "not answered":
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: Any) -> None:
            pass

    def draw() -> str | None:
        with lock:
            if rng.random() >= plan.wire or counts.total() >= plan.wire_faults:
                return None
            fault = rng.choice(WIRE_FAULTS)
            counts[fault] += 1
            (folder / "wire.json").write_text(json.dumps(counts))
            return fault

    kept = threading.local()

    def forward(body: bytes) -> bytes:
        if not hasattr(kept, "connection"):
            kept.connection = HTTPConnection("127.0.0.1", to, timeout=30)
        try:
            kept.connection.request("POST", "/", body, {"Content-Type": "application/json"})
            return bytes(kept.connection.getresponse().read())
        except (OSError, HTTPException):
            kept.connection.close()
            raise

    ThreadingHTTPServer.request_queue_size = 64
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


class Stage:
    """One run: its chain, its programs, and what happens to them."""

    def __init__(self, experiment: Experiment, plan: Plan, folder: Path) -> None:
        self.experiment, self.plan, self.folder = experiment, plan, folder
        self.outcome = Outcome(plan.seed)
        self.rng = random.Random(plan.seed)
        self.state = folder / "chain.json"
        self.anvil: ChainProcess = start_chain("anvil", state=self.state)
        self.direct = Chain(self.anvil.url)
        self.programs: dict[str, BaseProcess] = {}
        self.jobs: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.harmed: set[Path] = set()
        self.gate = FORK.Lock()

    def play(self) -> Outcome:
        """Play the run to its end, good or bad."""
        began = time.monotonic()
        try:
            self._set_up()
            problem = self._watch(began + (COURT_DEADLINE if self.plan.court else DEADLINE))
            self.outcome.problems += [problem] if problem else self._check()
        except Exception as error:
            self.outcome.problems.append(f"{type(error).__name__}: {error}")
        finally:
            for program in self.programs.values():
                program.kill()
                program.join()
            self.anvil.stop()
        wire = self.folder / "wire.json"
        self.outcome.faults.update(json.loads(wire.read_text()) if wire.exists() else {})
        mark = self.folder / "killed"
        if mark.exists():
            self.outcome.faults[f"killed the aggregator while {mark.read_text().lower()}"] += 1
        self.outcome.seconds = round(time.monotonic() - began, 1)
        return self.outcome

    def _set_up(self) -> None:
        chain, store = self.direct, LocalStore(self.folder / "store")
        publisher, deployer = (experiment_account(0, role, chain) for role in (PUBLISHER, DEPLOYER))
        params = self.experiment.task_params(self.experiment.publish(store))
        periods = dict.fromkeys(("enrol_period", "commit_period", "reveal_period", "grace_period"), 2 * LEAP)
        params = replace(params, batched=self.plan.batched, propose_period=LEAP, **periods)
        if self.plan.phase is Phase.CHALLENGING:
            params = replace(params, challenge_window=1)
        if self.plan.court:
            params = replace(params, challenge_window=LEAP)
        self.people = [experiment_account(0, participant_role(number), chain) for number in range(NODES)]
        aggregators = [experiment_account(0, role, chain) for role in AGGREGATORS[: 1 + self.plan.standby]]
        is_trickling = self.plan.strangers and self.plan.batched
        seats = [*aggregators, *([experiment_account(0, TRICKLING, chain)] if is_trickling else [])]
        self.strangers = strangers(chain) if self.plan.strangers else {}
        court = [CHALLENGER, *map(verifier_role, range(VERIFIERS))] if self.plan.court else []
        self.others = [publisher, deployer, *seats, *(experiment_account(0, role, chain) for role in court)]
        for account in (*self.people, *self.others, *self.strangers.values()):
            chain.fund(account.address, 20 * params.budget + 100 * ETHER)
        config = self.experiment.config.ledger
        settings = Settings(least_stake(self.experiment.config) * GWEI, config.exit_delay)
        if self.plan.court:
            money = {"min_verifier_stake": settings.min_stake, "juror_penalty": params.bond // 100}
            # A verifier that was killed has time to start its workers again; nobody has to wait for appeals.
            settings = replace(settings, dispute_period=20 * LEAP, appeals=0, **money)
        self.ledger, _ = deploy(chain, deployer, settings)
        self.ledger.post_task(publisher, params, [account.address for account in seats[1:]])
        self.floor = chain.block_number()
        to, port = int(self.anvil.url.rsplit(":", 1)[1]), free_port()
        world = World(
            folder=self.folder,
            experiment=self.experiment,
            plan=self.plan,
            url=f"http://127.0.0.1:{port}",
            address=self.ledger.address,
            first_block=self.ledger.first_block,
            ports=tuple(free_port() for _ in aggregators),
        )
        self.jobs = {
            "proxy": (proxy, (port, to, self.plan, self.folder, self.gate)),
            "aggregator": (aggregator, (world, 0)),
        }
        if self.plan.standby:
            self.jobs["standby"] = (aggregator, (world, 1))
        self.jobs |= {f"node {number}": (node, (world, number)) for number in range(NODES)}
        if self.plan.court:
            self.jobs |= {f"verifier {number}": (verifier, (world, number)) for number in range(VERIFIERS)}
            self.jobs["challenger"] = (challenger, (world,))
            self.outcome.faults["court"] += 1
            self._seat(["proxy", *(name for name in self.jobs if name.startswith("verifier"))])
        if self.plan.strangers:
            self._invite(world, is_trickling)
        for name in [name for name in self.jobs if name not in self.programs]:
            self._start(name)

    def _seat(self, names: Sequence[str]) -> None:
        """Wait for verifiers to serve the task, as their workers take longer to start than a round to play."""
        for name in names:
            self._start(name)
        deadline = time.monotonic() + COURT_DEADLINE / 2
        while len(self.ledger.pool(TASK)) < VERIFIERS and time.monotonic() < deadline:
            self.direct.connection.ask("evm_mine", [])
            time.sleep(0.1)

    def _invite(self, world: World, is_trickling: bool) -> None:
        """Have strangers come."""
        plan = self.plan
        self.jobs["poster"] = (poster, (world.ledger, self.experiment, self.folder, plan.seed))
        if plan.batched:
            self.jobs |= {f"crowd {place}": (crowd, (port,)) for place, port in enumerate(world.ports)}
        if is_trickling:
            self.jobs["trickling mailbox"] = (trickling_mailbox, (world.ledger, TRICKLING, free_port()))
        self.outcome.faults["strangers"] += 1

    def _start(self, name: str) -> None:
        self.programs[name] = FORK.Process(target=_program, args=(self.folder / f"{name}.log", *self.jobs[name]))
        self.programs[name].start()

    def _watch(self, deadline: float) -> str | None:
        """Let faults happen until all programs have left; return what went wrong, if anything did."""
        faults = list(self.plan.faults)
        next_fault = time.monotonic() + (faults[0][0] if faults else 0.0)
        block, moved = -1, time.monotonic()
        while True:
            now = time.monotonic()
            phase = self.ledger.phase(TASK)
            waiting = [due for due in self.due if due[0] > now]
            ready, self.due = [act for at, act in self.due if at <= now], waiting
            for act in ready:
                act()
            running = [name for name in self._members() if self.programs[name].is_alive()]
            for name, program in self.programs.items():
                if program.exitcode not in (None, 0, -signal.SIGKILL):
                    return f"{name} ended with {program.exitcode}: {self._said(name)}"
                if name not in self._members():
                    continue
                if program.exitcode == 0 and phase is not Phase.FINISHED:
                    self.outcome.faults["ended too early for a reorganisation"] += 1
                    self._start(name)
                if program.exitcode == -signal.SIGKILL and not self._is_gone(name):
                    self._start(name)
            if phase is Phase.FINISHED and not running and all(p.exitcode == 0 for p in self._players()):
                return None
            if (found := self.direct.block_number()) != block:
                block, moved = found, now
            elif (self._is_gone("aggregator") or self._is_judged(phase)) and now > moved + STALL:
                self.direct.advance(LEAP)
                self.outcome.faults["time passed"] += 1
            if phase is Phase.CHALLENGING and not self.plan.court:
                # Time passes on Anvil only with blocks.
                self.direct.connection.ask("evm_mine", [])
            if faults and now >= next_fault and phase is not Phase.FINISHED:
                kind = faults.pop(0)[1]
                if self._harm(kind):
                    self.outcome.faults[kind] += 1
                next_fault = time.monotonic() + (faults[0][0] if faults else 0.0)
            if now > deadline:
                return self._hung(running, phase)
            time.sleep(0.01)

    def _members(self) -> list[str]:
        """Return the programs of the task."""
        return [name for name in self.programs if name.startswith(("node", "aggregator", "standby", "verifier"))]

    def _is_judged(self, phase: Phase) -> bool:
        """Whether a proposal is in its window or before a jury, where nobody trains."""
        return self.plan.court and phase in (Phase.CHALLENGING, Phase.DISPUTED, Phase.FINISHED)

    def _players(self) -> list[BaseProcess]:
        return [self.programs[name] for name in self._members() if not self._is_gone(name)]

    def _is_gone(self, name: str) -> bool:
        """Whether a program was killed for ever."""
        return name == "aggregator" and self.plan.standby and (self.folder / "killed").exists()

    def _harm(self, kind: str) -> bool:
        """Do one harm; False if there was nothing to do it to."""
        if kind == "reorganised":
            with self._still():
                depth = min(self.rng.randint(1, 5), self.direct.block_number() - self.floor)
                if depth > 0:
                    self.direct.connection.ask("anvil_reorg", [depth, []])
                    self.direct.connection.ask("evm_mine", [])
            return depth > 0
        if kind == "restarted":
            with self._still():
                self.anvil.stop()
            self.anvil = start_chain("anvil", port=int(self.anvil.url.rsplit(":", 1)[1]), state=self.state)
            self.floor = self.direct.block_number()
            return True
        if kind in ("lost", "damaged"):
            return self._harm_content(kind)
        name = self.rng.choice([each for each in self._members() if each.startswith(("node", "verifier"))])
        if kind == "killed the aggregator":
            name = "standby" if self._is_gone("aggregator") else "aggregator"
        if not self.programs[name].is_alive():
            return False
        self.programs[name].kill()
        self.programs[name].join()
        return True

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Have Anvil mine nothing of the programs': what it mines now is in its state or in its logs, not in both.

        It mines after it has answered, and goes on with a block that it has begun when it is told to mine no more.
        """
        with self.gate:
            deadline = time.monotonic() + STALL
            while int(self.direct.connection.ask("txpool_status", [])["pending"], 16) and time.monotonic() < deadline:
                time.sleep(0.005)
            yield

    def _harm_content(self, kind: str) -> bool:
        files = sorted(path for path in (self.folder / "store").glob("*/*") if not path.name.startswith(".tmp-"))
        # A stranger may store nothing at all, in which nothing can be damaged.
        files = [path for path in files if path not in self.harmed and path.stat().st_size]
        if not files:
            return False
        path = self.rng.choice(files)
        self.harmed.add(path)
        data = path.read_bytes()
        aside = path.with_name(".tmp-harm")
        if kind == "lost":
            path.unlink(missing_ok=True)
        else:
            place = self.rng.randrange(len(data))
            aside.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
            aside.replace(path)

        def restore() -> None:
            aside.write_bytes(data)
            aside.replace(path)
            self.harmed.remove(path)

        self.due.append((time.monotonic() + self.rng.uniform(0.1, 1.5), restore))
        return True

    def _check(self) -> list[str]:
        """Return what is not as it must be at the end."""
        ledger, outcome, config = self.ledger, self.outcome, self.experiment.config.ledger
        history = History(ledger).update()
        task = history.task(TASK)
        outcome.model = task.model.cid
        outcome.credits = {history.owners[i]: ledger.credit(TASK, i) for i in sorted(task.enrolled)}
        problems = []
        if [r.index for r in task.settled] != list(range(1, ROUNDS + 1)) or len(task.rounds) != ROUNDS:
            problems.append(f"rounds {sorted(task.rounds)}, of them settled {[r.index for r in task.settled]}")
        stakes = [ledger.participant(history.ids[person.address]).stake for person in self.people]
        if stakes != [least_stake(self.experiment.config) * GWEI] * NODES:
            problems.append(f"stakes {stakes}")
        if any(dispute.status is not DisputeStatus.UPHELD for dispute in history.disputes) or task.slashes:
            problems.append(f"disputes {[each.status.name for each in history.disputes]}, slashed {task.slashes}")
        if self.plan.court and not history.disputes:
            problems.append("nothing was challenged")
        credit_unit = config.credit_unit_gwei * GWEI
        owed = sum(stakes) + sum(outcome.credits.values()) * credit_unit + self._strangers_own(history)
        owed += sum(ledger.free_balance(account.address) for account in (*self.people, *self.others))
        held = self.direct.balance(ledger.address)
        burned = sum(log.arguments["amount"] for log in ledger.events(["Burned"]))
        if held != owed + burned:
            problems.append(f"the contract holds {held} wei and owes {owed}, {burned} burned")
        return problems

    def _strangers_own(self, history: History) -> int:
        """Return what the ledger holds for strangers: stakes, balances, and what they paid into their tasks."""
        ledger, own = self.ledger, {account.address for account in self.people}
        others = [ledger.participant(i) for address, i in history.ids.items() if address not in own]
        total = sum(record.stake + record.unbonding for record in others)
        total += sum(ledger.free_balance(account.address) for account in self.strangers.values())
        for number, task in history.tasks.items():
            if number != TASK:
                unit = task.params.credit_unit
                total += sum(seat.deposit for seat in ledger.seats(number))
                total += task.params.budget - ledger.task(number).spent_units * unit
                total += sum(ledger.credit(number, i) * unit for i in task.enrolled)
        return total

    def _hung(self, running: list[str], phase: Phase) -> str:
        for name in running:
            os.kill(self.programs[name].pid or 0, signal.SIGUSR1)
        time.sleep(0.5)
        told = "\n".join([*(f"-- {name}: {self._said(name)}" for name in running), f"-- ledger: {self._recorded()}"])
        return f"not ended after {DEADLINE:.0f} s, {phase.name.lower()}; still running: {', '.join(running)}\n{told}"

    def _recorded(self) -> str:
        """Return what the ledger's state and its logs say of the newest round: who is waited for, and who thinks so."""
        task = History(self.ledger).update().task(TASK)
        index = max(task.rounds, default=0)
        record = self.ledger.round(TASK, index) if index else None
        logs = task.rounds[index] if index else None
        return f"{record}; by its logs selected {logs and logs.selected}, committed {logs and sorted(logs.commits)}"

    def _said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-3000:]


def play(experiment: Experiment, plan: Plan, keep: bool = False) -> Outcome:
    """Play a plan in a folder of its own, kept on request if something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.seed}-"))
    outcome = Stage(experiment, plan, folder).play()
    if keep and outcome.problems:
        outcome.problems.append(f"see {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def main() -> int:
    """Play the undisturbed run and the seeds; the exit code says whether all ended alike."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--keep", action="store_true", help="keep the folders of runs that failed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(Path(folder), participants=NODES, rounds=ROUNDS)
        experiment = make_experiment(load_config(config), Path(folder))
    expected = play(experiment, Plan.undisturbed(), options.keep)
    outcomes = []
    for seed in range(options.first, options.first + options.seeds):
        outcome = play(experiment, Plan.draw(seed), options.keep)
        if not outcome.problems and (outcome.model, outcome.credits) != (expected.model, expected.credits):
            outcome.problems.append(f"model {outcome.model}, credits {outcome.credits}")
        outcomes.append(outcome)
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.faults.items()))
        state = "ok" if not outcome.problems else "FAILED"
        print(f"seed {seed:4d} {state} {outcome.seconds:5.1f} s  {faults}", file=sys.stderr, flush=True)
        for problem in outcome.problems:
            print(problem, file=sys.stderr, flush=True)
    if options.format == "json":
        print(json.dumps({"undisturbed": vars(expected), "runs": [vars(outcome) for outcome in outcomes]}))
    else:
        print(_summary(expected, outcomes))
    return 1 if expected.problems or any(outcome.problems for outcome in outcomes) else 0


def _summary(expected: Outcome, outcomes: list[Outcome]) -> str:
    failed = [outcome.seed for outcome in outcomes if outcome.problems]
    seconds = sorted(outcome.seconds for outcome in outcomes)
    total: Counter[str] = sum((outcome.faults for outcome in outcomes), Counter())
    lines = [
        f"undisturbed  {expected.seconds} s, {expected.model}{' '.join(expected.problems)}",
        f"runs         {len(outcomes)}, {len(failed)} failed {failed or ''}",
        f"seconds      median {seconds[len(seconds) // 2]}, most {seconds[-1]}, together {sum(seconds):.0f}",
    ]
    return "\n".join(lines + [f"{count:11d}  {kind}" for kind, count in sorted(total.items())])


def _program(path: Path, job: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    with path.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    faulthandler.register(signal.SIGUSR1)
    logging.basicConfig(level=logging.WARNING, format="%(relativeCreated)d %(name)s %(message)s", force=True)
    logging.getLogger("fedledger").setLevel(logging.DEBUG)
    try:
        job(*arguments)
    except ChainError as error:
        log.exception("%s", error)
        raise SystemExit(int(error.exit_code)) from error


if __name__ == "__main__":
    sys.exit(main())
