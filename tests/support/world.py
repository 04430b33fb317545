"""A world for attacks: a task with a challenge window on Anvil, its programs, and everybody's money.

All programs play in this process, one step each in turn, and time passes when nobody has anything to do. Nothing costs
gas, so that who gains or loses does so by the ledger's rules alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from fedledger.aggregator.driver import Aggregator
from fedledger.aggregator.duties.proposing import Proposing
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.aggregator.round.outcome import Content, RoundInput, RoundOutcome
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.contracts.ledger.access import Access, TaskAccess
from fedledger.contracts.ledger.actor import Action, Step
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import DisputeStatus, Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.audit import AuditResult, audit_chain
from fedledger.ledger_tools.deploy import deploy
from fedledger.ledger_tools.verifier.context import Service
from fedledger.ledger_tools.verifier.verifier import Verifier
from fedledger.node.participant import Participant
from fedledger.platform.experiment.accounts import (
    AGGREGATOR,
    DEPLOYER,
    PUBLISHER,
    experiment_account,
    participant_role,
    verifier_role,
)
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.small import write_config

ETHER = 10**18
GWEI = 10**9
PURSE = 100 * ETHER
BOND = 10_000_000 * GWEI
JUROR_PENALTY = 100_000 * GWEI
PERIOD = 600
PAUSE = 150
SOME_TIME = 0.1
TASK = 1
LEDGER = """
[ledger]
quorum = {quorum}
batched = {batched}
challenge_window = {window}
max_unfinal = {max_unfinal}
penalty_gwei = {penalty_gwei}
dispute_period = 600
enrol_period = 600
exit_delay = 86400
"""
MAX_TURNS = 2_000


@dataclass
class World:
    """The chain, the ledger and whoever plays.

    ``steps`` are what verifiers did, in order, each with its number. Where the world is ``patient``, time waits for all
    their replays; where it is not, it passes meanwhile. ``pause`` are the seconds that pass when nobody does anything.
    """

    folder: Path
    chain: Chain
    aggregators: list[Aggregator] = field(default_factory=list)
    people: list[Participant] = field(default_factory=list)
    verifiers: list[Verifier] = field(default_factory=list)
    accounts: dict[str, LocalAccount] = field(default_factory=dict)
    steps: list[tuple[int, Step]] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    number: int = TASK
    patient: bool = True
    pause: int = PAUSE

    def set_up(
        self,
        *,
        participants: int = 4,
        rounds: int = 2,
        verifiers: int = 3,
        standbys: int = 0,
        batched: bool = False,
        window: int = PERIOD,
        max_unfinal: int = 1,
        penalty_gwei: int = 0,
        extra: str = "",
        ledger: str = "",
        data: str = "",
        code: str | None = None,
        first: Callable[[World], None] = lambda world: None,
    ) -> World:
        """Deploy the ledger, fill everybody's purse, and post the task; ``first`` does what comes before that.

        ``extra`` are more lines of the training, ``ledger`` of the terms.
        """
        terms = LEDGER.format(
            quorum=max(1, participants // 2),
            batched=str(batched).lower(),
            window=window,
            max_unfinal=max_unfinal,
            penalty_gwei=penalty_gwei,
        )
        config = write_config(self.folder, participants, rounds, extra + terms + ledger, data)
        if code is not None:
            model = next(line for line in config.read_text().splitlines() if line.startswith("model = "))
            config.write_text(config.read_text().replace(model, f'code = "{code}"'))
        self.experiment = make_experiment(load_config(config), self.folder)
        self.chain.connection.ask("anvil_setNextBlockBaseFeePerGas", ["0x0"])
        seats = [AGGREGATOR, *(f"standby {number}" for number in range(standbys))]
        people = [participant_role(number) for number in range(participants)]
        watchers = [verifier_role(number) for number in range(verifiers)]
        for role in (DEPLOYER, PUBLISHER, *seats, *people, *watchers):
            self.purse(role)
        self.ledger, self.deployment = deploy(self.chain, self.accounts[DEPLOYER], self.experiment.ledger_settings())
        self.store = LocalStore(self.folder / "store")
        params = self.experiment.task_params(self.experiment.publish(self.store))
        self.params = params
        self.history = History(self.ledger)
        first(self)
        standing_by = [self.accounts[s].address for s in seats[1:]]
        self.number = self.ledger.post_task(self.accounts[PUBLISHER], params, standing_by)
        if penalty_gwei and not verifiers:
            self.add_judges()
        self.aggregators = [self.aggregator(role) for role in seats]
        self.people = [self.participant(number) for number in range(participants)]
        self.verifiers = [self.verifier(number) for number in range(verifiers)]
        return self

    # -- who plays ---------------------------------------------------------------------------------------------

    def purse(self, role: str) -> LocalAccount:
        """Return the account of a role, with a full purse."""
        account = self.accounts[role] = experiment_account(0, role, self.chain)
        self.chain.fund(account.address, PURSE)
        return account

    def aggregator(self, role: str = AGGREGATOR, kind: type[Aggregator] = Aggregator, **more: Any) -> Aggregator:
        """Return an aggregator of the task, honest unless ``kind`` or its arguments say otherwise."""
        mailbox = (
            Mailbox(self.ledger, self.history, self.number, self.folder / "mailbox") if self.params.batched else None
        )
        given = {"measure": self.experiment.measurer(), "mailbox": mailbox} | more
        return kind(self.access(self.accounts[role]), **given)

    def participant(self, number: int, kind: type[Participant] = Participant) -> Participant:
        """Return a participant."""
        access = self.access(self.accounts[participant_role(number)])
        mailbox = self.aggregators[0].commitments.mailbox
        return kind(access, self.folder / f"journal{number}", self.experiment.trainer(number), mailbox)

    def access(self, account: LocalAccount) -> TaskAccess:
        """Return an account's access to the task."""
        return TaskAccess(self.ledger, self.history, account, self.store, self.number, self.experiment.spec)

    def deliver_to(self, aggregator: Aggregator) -> None:
        """Have all participants leave their commitments with an aggregator."""
        for person in self.people:
            person.batched.mailbox = aggregator.commitments.mailbox

    def verifier(
        self, number: int, kind: type[Verifier] = Verifier, access: Access | None = None, **service: Any
    ) -> Verifier:
        """Return a verifier."""
        role = verifier_role(number)
        account = self.accounts[role] if role in self.accounts else self.purse(role)
        access = access or Access(self.ledger, self.history, account, self.store)
        return kind(access, Service(**{"patience": 0.0, "courtesy": 0.0} | service), self.folder / "votes")

    def add_judges(self, count: int = 3) -> None:
        """Let accounts serve the task that never do anything: without a pool of verifiers nobody is punished."""
        stake = self.experiment.ledger_settings().min_verifier_stake
        for number in range(count):
            account = self.purse(f"judge {number}")
            self.ledger.register(account, account.address, account.address, stake)
            self.ledger.enlist(account)
            self.ledger.serve(account, self.number)

    # -- the play ----------------------------------------------------------------------------------------------

    @property
    def task(self) -> TaskHistory:
        """The task, as it is now."""
        return self.history.update().task(self.number)

    def turn(self) -> bool:
        """Let everybody do one thing; return whether anybody did."""
        busy = False
        for number, verifier in enumerate(self.verifiers):
            step = verifier.step()
            seen: set[object] = set()
            while self.patient and step.is_idle and _was_busy(verifier, seen):
                # One after another, so that the first one that has something to object to always is the same.
                step = verifier.step()
            self.steps.append((number, step))
            busy |= not step.is_idle
        for aggregator in self.aggregators:
            busy |= not aggregator.step().is_idle
        for person in self.people:
            busy |= not person.step().is_idle
        return busy

    def play(self, until: Callable[[], bool] | None = None) -> World:
        """Let everybody play until something is so, else to the end: the task has ended, and no dispute is open."""
        over = until or self.is_over
        for _ in range(MAX_TURNS):
            if over():
                return self
            if not self.turn() and not over():
                self.rest()
        raise AssertionError(f"not over: {self.ledger.phase(self.number).name}, rounds {sorted(self.task.rounds)}")

    def rest(self) -> None:
        """Let time pass."""
        if not self.patient:
            time.sleep(SOME_TIME)
        self.chain.advance(self.pause)

    def is_over(self) -> bool:
        """Whether the task has ended and no dispute is open."""
        disputes = self.history.update().disputes
        return self.task.finished and all(d.status is not DisputeStatus.OPEN for d in disputes)

    def join(self, serving: bool = True) -> World:
        """Let everybody register, enlist, enrol and, if they are to, serve, and remember what each owns.

        No round is opened before: it is judged by those that served the task then.
        """
        watchers = len(self.verifiers)
        aggregators, self.aggregators = self.aggregators, []
        self.play(
            lambda: (
                len(self.task.enrolled) == len(self.people)
                and len(self.history.verifiers) >= watchers
                and (not serving or not self.params.challenge_window or self.pool_size >= watchers)
            )
        )
        self.aggregators = aggregators
        self.before = self.wealth()
        return self

    @property
    def pool_size(self) -> int:
        """How many verifiers serve the task, or cannot judge it."""
        unable = sum(self.number in verifier.context.unable for verifier in self.verifiers)
        return len(self.history.serving.get(self.number, ())) + unable

    def did(self, *actions: Action) -> list[int]:
        """Return who did one of some things, in order."""
        return [number for number, step in self.steps if step.action in actions]

    # -- money -------------------------------------------------------------------------------------------------

    def wealth(self) -> dict[str, int]:
        """Return what each account owns, by role: its purse and what the ledger holds for it, credits included."""
        seats = {}
        for place, seat in enumerate(self.ledger.seats(self.number)):
            held = self.ledger.held(self.number, place)
            seats[seat.holder] = seats.get(seat.holder, 0) + seat.deposit + held
        owned = {}
        for role, account in self.accounts.items():
            total = self.chain.balance(account.address) + self.ledger.free_balance(account.address)
            total += seats.get(account.address, 0) + self._open_bonds(account.address)
            participant = self.ledger.participant_id(account.address)
            if participant is not None:
                record = self.ledger.participant(participant)
                total += record.stake + record.unbonding
                total += self.ledger.credit(self.number, participant) * self.params.credit_unit
            owned[role] = total
        return owned

    def gains(self) -> dict[str, int]:
        """Return what each account has gained or lost since everybody had joined, by role; who did neither is left out.

        The publisher's budget is the publisher's as far as it has not been earned.
        """
        now = self.wealth()
        now[PUBLISHER] += self._escrow() - self.params.budget
        changes = {role: now[role] - self.before.get(role, PURSE) for role in now}
        return {role: change for role, change in changes.items() if change}

    @property
    def burned(self) -> int:
        """What nobody has any more."""
        return sum(log.arguments["amount"] for log in self.ledger.events(["Burned"]))

    def credits(self) -> dict[str, int]:
        """Return what participants have earned, in wei, by role."""
        ids = {participant_role(n): self.history.ids[p.access.address] for n, p in enumerate(self.people)}
        return {role: self.task.earned(i) * self.params.credit_unit for role, i in ids.items()}

    def check_money(self) -> None:
        """Assert that the ledger holds exactly what it owes and what was burned, and that no money came or went."""
        purses = sum(self.chain.balance(account.address) for account in self.accounts.values())
        owed = sum(self.wealth().values()) - purses + self._escrow()
        held = self.chain.balance(self.ledger.address)
        assert held == owed + self.burned, f"the ledger holds {held}, owes {owed}, burned {self.burned}"
        assert purses + held == PURSE * len(self.accounts)

    def _escrow(self) -> int:
        if self.task.finished:
            return 0
        spent = self.ledger.task(self.number).spent_units * self.params.credit_unit
        return self.params.budget - spent

    def _open_bonds(self, address: str) -> int:
        total = 0
        for dispute in self.history.update().disputes:
            if dispute.status is not DisputeStatus.OPEN:
                continue
            total += dispute.bond if dispute.challenger == address else 0
            total += sum(jury.appeal_bond for jury in dispute.juries if jury.appellant == address)
        return total

    # -- the end -----------------------------------------------------------------------------------------------

    def audit(self) -> AuditResult:
        """Audit the task from the chain."""
        return audit_chain(self.ledger, self.store, self.number)

    def statuses(self) -> list[DisputeStatus]:
        """Return how each dispute stands."""
        return [dispute.status for dispute in self.history.update().disputes]


def _was_busy(verifier: Verifier, seen: set[object]) -> bool:
    """Wait for a verifier's replays; return whether there were any, or results that it has not taken yet."""
    busy = verifier.replays.busy
    while verifier.replays.busy:
        time.sleep(0.002)
    fresh = verifier.replays.workers._found.keys() - seen
    seen |= fresh
    return busy or bool(fresh)


@contextmanager
def world(folder: Path, **terms: Any) -> Iterator[World]:
    """Make a world on a chain of its own; see :meth:`World.set_up` for its terms."""
    with running_chain("anvil") as process:
        made = World(folder, Chain(process.url)).set_up(**terms)
        try:
            yield made
        finally:
            for verifier in made.verifiers:
                verifier.close()


def settled(task: TaskHistory) -> Sequence[int]:
    """Return the numbers of the rounds that were settled."""
    return [r.index for r in task.settled]


Lie = Callable[[RoundOutcome], RoundOutcome]


def liar(lie: Lie, rounds: Sequence[int] = (1,)) -> type[Aggregator]:
    """Return an aggregator that makes something else of the outcome of some rounds."""

    class Lying(Proposing):
        def outcome(self, given: RoundInput) -> RoundOutcome:
            outcome = super().outcome(given)
            return lie(outcome) if given.index in rounds else outcome

    class Liar(Aggregator):
        proposing_kind = Lying

    return Liar


def sleeper(rounds: Sequence[int] = (1,)) -> type[Aggregator]:
    """Return an aggregator that does not propose some rounds, which are voided then."""

    class Sleeping(Proposing):
        def propose(self, task: TaskHistory, current: RoundHistory, phase: Phase) -> Step | None:
            return None if current.index in rounds else super().propose(task, current, phase)

    class Sleeper(Aggregator):
        proposing_kind = Sleeping

    return Sleeper


def wrong_verdict(outcome: RoundOutcome) -> RoundOutcome:
    """Refuse an update that should be accepted."""
    victim = min(i for i, verdict in outcome.verdicts.items() if verdict is Verdict.ACCEPTED)
    shares = {i: share for i, share in outcome.shares.items() if i != victim}
    return replace(outcome, verdicts={**outcome.verdicts, victim: Verdict.HELD_OUT}, shares=shares)


def wrong_share(outcome: RoundOutcome) -> RoundOutcome:
    """Move one unit of pay from one participant to another."""
    first, second = sorted(outcome.shares)[:2]
    moved = {first: outcome.shares[first] + 1, second: outcome.shares[second] - 1}
    return replace(outcome, shares=outcome.shares | moved)


def wrong_model(outcome: RoundOutcome) -> RoundOutcome:
    """Change the last bit of the new model."""
    data = bytearray(outcome.model.data)
    data[-1] ^= 1
    return replace(outcome, model=Content.of(bytes(data)))
