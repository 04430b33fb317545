"""The engine: one program plays all parts of an experiment on one chain, with the code of real deployments.

Only the training of those whom a round asks is done elsewhere, in a backend's processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from eth_account.signers.local import LocalAccount
from numpy.typing import NDArray

from fedledger.aggregator.driver import Aggregator
from fedledger.aggregator.duties.proposing import Based
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.aggregator.selection.planner import RoundPlanner
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.records import PAYMENT_GAS, Transaction
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.deploy import Deployment, deploy
from fedledger.node.duties.joining import usual_stake
from fedledger.node.participant import Participant
from fedledger.node.solvers.base import LocalUpdate, Memory
from fedledger.node.training import TrainingContext
from fedledger.platform.engine.backends.base import Backend, Job, Work
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.background import Background
from fedledger.platform.experiment.accounts import (
    AGGREGATOR,
    DEPLOYER,
    PUBLISHER,
    PURSE,
    experiment_account,
    experiment_address,
    participant_role,
)
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment, make_experiment
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.update import DELTA
from fedledger.storage import durable_files
from fedledger.storage.base import ContentStore
from fedledger.storage.durable_files import together
from fedledger.storage.models import Models

ETHER = 10**18
MANY = 64
"""Participants from which on they are given money, registered and enrolled together, many in a block."""
MAX_VOIDS = 3


@dataclass(frozen=True)
class Progress:
    """What one may watch of a run: the last round that was settled or voided."""

    round: int
    rounds: int
    accuracy: float
    accepted: int
    refused: int
    reputations: tuple[int, ...]
    gas: int
    voided: bool = False


@dataclass(frozen=True)
class Run:
    """A run that has come to its end."""

    ledger: Ledger
    history: History
    task: TaskHistory
    deployment: Deployment
    metrics: tuple[dict[str, Any], ...]
    final: ModelFile
    accuracy: float
    seconds: float
    gas: int


@together()
def run(
    setting: Experiment,
    chain: Chain,
    store: ContentStore,
    folder: Path,
    watch: Callable[[Progress], None] = lambda progress: None,
    found: Deployment | None = None,
    backend: Backend | None = None,
) -> Run:
    """Run an experiment from where the ledger says it is to its end.

    Parameters
    ----------
    setting
        The experiment.
    chain
        A development chain.
    store
        The content store.
    folder
        Where journals are kept, and the deployment's record.
    watch
        Called after every round.
    found
        The deployment of a run that is resumed.
    backend
        Where participants are trained; in this process unless given.
    """
    started = time.monotonic()
    seed = setting.config.seed
    publisher, aggregator_account, deployer = (
        experiment_account(seed, role, chain) for role in (PUBLISHER, AGGREGATOR, DEPLOYER)
    )
    if found is None:
        chain.fund(deployer.address, ETHER)
        ledger, deployment = deploy(chain, deployer, setting.settings())
        deployment.write(folder / "deployment.json")
    else:
        deployment, ledger = found, found.open(chain)
    history = History(ledger)
    params = setting.task_params(setting.publish(store))
    if not history.update().tasks:
        chain.fund(publisher.address, params.budget + ETHER)
        ledger.post_task(publisher, params, setting.standbys())
    task_id = 1
    chain.fund(aggregator_account.address, params.bond + 10 * ETHER)
    mailbox = Mailbox(ledger, history, task_id, folder / "mailbox") if params.batched else None
    backend = backend or Serial(setting)
    participants, models, plans = [], Models(store), RoundPlanner(store)
    roles = [participant_role(number) for number in range(setting.config.participants)]
    accounts = [experiment_account(seed, role, chain) for role in roles]
    _give(chain, seed, accounts, params.min_stake + params.penalty + 2 * ETHER)
    if len(accounts) >= MANY:
        _join(ledger, history, task_id, accounts)
    for number, account in enumerate(accounts):
        access = TaskAccess(ledger, history, account, store, task_id, setting.spec)
        base_of = plans.base_of(history, task_id, setting.spec, account.address)
        journal = folder / "journal" / account.address
        participants.append(Participant(access, journal, setting.trainer(number), mailbox, base_of, models))
    access = TaskAccess(ledger, history, aggregator_account, store, task_id, setting.spec)
    aggregator = Aggregator(access, setting.measurer(), mailbox)
    metrics = _Metrics(setting, history, task_id, chain, watch)
    for settled in history.update().task(task_id).counted:
        metrics.add(settled.index, models(_model_of(history, task_id, settled.index)))
    voids, idle = 0, False
    while True:
        step = aggregator.step()
        for action, index in step.actions:
            if action not in (Action.SETTLED, Action.VOIDED):
                continue
            known = history.update().task(task_id)
            failed = action is Action.VOIDED or known.is_empty(known.rounds[index])
            voids = voids + 1 if failed else 0
            if voids >= MAX_VOIDS:
                raise RoundError(
                    f"{voids} rounds in a row were below the quorum of {params.quorum}.",
                    "Lower the quorum, or find out why the nodes do not deliver.",
                )
            if not failed:
                metrics.add(index, models(_model_of(history, task_id, index)))
        if step.action is Action.DONE:
            break
        if step.action is Action.WAITED and aggregator.seen is not None:
            # The aggregator has just read the ledger, and told it nothing since.
            seen, steps = aggregator.seen, list[Step]()
            with Background() as meanwhile:
                if seen.phase is Phase.COMMITTING:
                    _train(backend, participants, seen.task, models, aggregator, meanwhile, steps)
                    meanwhile.wait()
                steps += [participant.act(seen) for participant in participants]
            durable_files.begin()
            if all(step.is_idle for step in steps):
                _pass_time(chain, ledger, task_id, waited=idle)
                idle = True
                continue
        idle = False
    task = history.update().task(task_id)
    final = ModelFile.decode(store.get(task.model))
    return Run(
        ledger=ledger,
        history=history,
        task=task,
        deployment=deployment,
        metrics=tuple(metrics.rows),
        final=final,
        accuracy=setting.accuracy(final),
        seconds=time.monotonic() - started,
        gas=metrics.gas(),
    )


def _give(chain: Chain, seed: int, accounts: Sequence[LocalAccount], wei: int) -> None:
    """Bring every account to a balance."""
    if len(accounts) < MANY:
        for account in accounts:
            chain.fund(account.address, wei)
        return
    missing = {account.address: wei - chain.balance(account.address) for account in accounts}
    payments = {address: amount for address, amount in missing.items() if amount > 0}
    if payments:
        purse = experiment_account(seed, PURSE, chain)
        chain.fund(purse.address, sum(payments.values()) + len(payments) * PAYMENT_GAS * chain.sender.price() + ETHER)
        chain.send_all([Transaction(purse, to, value=amount, gas=PAYMENT_GAS) for to, amount in payments.items()])


def _join(ledger: Ledger, history: History, task_id: int, accounts: Sequence[LocalAccount]) -> None:
    """Register and enrol those who are not; what is too late for that, each participant finds out by itself."""
    task = history.update().task(task_id)
    new = [account for account in accounts if account.address not in history.ids]
    if new:
        ledger.register_all(new, usual_stake(ledger, task))
    enrolled = history.update().task(task_id).enrolled
    left = [account for account in accounts if history.ids.get(account.address) not in enrolled]
    if left and ledger.phase(task_id) is Phase.ENROLLING:
        ledger.enrol_all(left, task_id)


def _train(
    backend: Backend,
    participants: Sequence[Participant],
    task: TaskHistory,
    models: Models,
    aggregator: Aggregator,
    meanwhile: Background,
    steps: list[Step],
) -> None:
    """Make the updates of the current round that are not there yet, and have the aggregator look at them meanwhile.

    Who signs its commitment off the chain does so as soon as it has trained.
    """
    current = task.rounds[max(task.rounds)]
    numbers = {participant.access.address: number for number, participant in enumerate(participants)}
    asked = [numbers[owner] for owner in current.owners.values() if owner in numbers]
    jobs, server = [], dict[str, NDArray[np.float32]]()
    for number in asked:
        context = participants[number].updates.context(task, current)
        if context is not None:
            jobs.append(Job(number, participants[number].updates.staleness(current), own=context.memory.own))
            server = dict(context.memory.server)
    if not jobs:
        return
    bases = [models(ref).vector for ref in current.bases[: max(job.staleness for job in jobs) + 1]]
    before = task.rounds.get(current.index - 1)
    if before is not None:
        bases.append(models(before.base).vector)
    work = Work(current.index, bases, jobs, None if before is None else len(bases) - 1, server)

    def finish(participant: Participant, trained: LocalUpdate) -> None:
        participant.updates.keep(current, trained)
        if task.batched:
            steps.append(participant.act(Situation(task, Phase.COMMITTING)))

    def look(participant: Participant, staleness: int) -> None:
        ref = current.bases[staleness]
        journal = participant.updates.journal
        entry = journal.entry(current)
        if entry is not None:
            data, sender = journal.content(current.index), participant.access.address
            durable_files.begin()
            aggregator.proposing.look(current.index, Based(models(ref), ref, staleness), sender, data, entry.reference)

    for job, trained in backend.train(work):
        participant = participants[job.number]
        meanwhile(partial(finish, participant, trained), partial(look, participant, job.staleness))


def mean_accuracies(config: ExperimentConfig, folder: Path) -> list[float]:
    """Return the test accuracy after each round of the same training with a plain mean and no ledger.

    Both arguments are those of :func:`fedledger.platform.experiment.experiment.make_experiment`, so that another
    process can do this beside the run.
    """
    setting = make_experiment(config, folder)
    numbers = range(config.participants)
    trainers = [setting.trainer(number) for number in numbers]
    addresses = [experiment_address(config.seed, participant_role(number)) for number in numbers]
    base, before = ModelFile.decode(setting.contents[0]), None
    accuracies = []
    states: list[Mapping[str, NDArray[np.float32]]] = [{} for _ in numbers]
    server = {name: np.zeros(len(base.vector), np.float32) for name in setting.spec.vectors}
    for index in range(1, setting.spec.rounds + 1):
        total = {name: np.zeros(len(base.vector), np.float64) for name in (DELTA, *setting.spec.vectors)}
        examples = 0
        for number, (trainer, address) in enumerate(zip(trainers, addresses, strict=True)):
            memory = Memory(states[number], server)
            trained = trainer(TrainingContext(setting.spec, index, address, base, before, memory))
            states[number] = trained.state
            for name, vector in {**trained.vectors, DELTA: trained.delta}.items():
                total[name] += vector.astype(np.float64) * trained.examples
            examples += trained.examples
        means = {name: vector / examples for name, vector in total.items()}
        server = {name: (vector + means[name]).astype(np.float32) for name, vector in server.items()}
        base, before = replace(base, vector=(base.vector + means[DELTA]).astype(np.float32)), base
        accuracies.append(setting.accuracy(base))
    return accuracies


class _Metrics:
    def __init__(
        self, setting: Experiment, history: History, task: int, chain: Chain, watch: Callable[[Progress], None]
    ) -> None:
        self.rows: list[dict[str, Any]] = []
        self._setting, self._history, self._task, self._watch = setting, history, task, watch
        self._chain = chain
        self._gas = 0
        self._next_block = 0

    def add(self, index: int, model: ModelFile) -> None:
        task = self._history.task(self._task)
        settled = task.rounds[index]
        accepted = sum(verdict.name == "ACCEPTED" for verdict in settled.verdicts.values())
        reputations = tuple(self._history.evidence(task.publisher, i).reputation for i in sorted(task.enrolled))
        row: dict[str, Any] = {
            "round": index,
            "accuracy": self._setting.accuracy(model),
            "accepted": accepted,
            "refused": len(settled.verdicts) - accepted,
            "gas": self.gas(settled.settled_in),
        }
        self.rows.append(row)
        self._watch(
            Progress(
                index,
                self._setting.spec.rounds,
                row["accuracy"],
                accepted,
                row["refused"],
                reputations,
                row["gas"],
            )
        )

    def gas(self, last: int | None = None) -> int:
        """Return the gas used up to a block, the newest unless it is given."""
        last = self._chain.block_number() if last is None else last
        self._gas += sum(self._chain.gas_used(number) for number in range(self._next_block, last + 1))
        self._next_block = last + 1
        return self._gas


def _model_of(history: History, task: int, index: int) -> Any:
    proposal = history.task(task).rounds[index].proposal
    if proposal is None:
        raise RoundError(f"Round {index} was settled without a proposal.")
    return proposal.model


def _pass_time(chain: Chain, ledger: Ledger, task: int, waited: bool) -> None:
    """Let a development chain's time pass when everybody waits for a deadline.

    In some phases it is the aggregator's turn, which it takes at its next step; if it waits then, too (``waited``), it
    waits for the end of the phase.
    """
    its_turn = (Phase.SETTLEABLE, Phase.CLOSING, Phase.PROPOSING, Phase.OVERDUE)
    phase = ledger.phase(task)
    if phase is not Phase.FINISHED and (waited or phase not in its_turn):
        chain.advance(60)
