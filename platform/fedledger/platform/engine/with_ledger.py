"""Federated training with a ledger: one program plays all parts on one chain, with the code of real deployments.

Only the training is done elsewhere, in a backend's processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.driver import Aggregator
from fedledger.aggregator.duties.proposing import Based
from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.aggregator.reputation.base import require_others
from fedledger.aggregator.reputation.standings import TaskReputations
from fedledger.aggregator.round.inputs import committed_examples
from fedledger.aggregator.selection.planner import RoundPlanner
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.deploy import Deployment, deploy
from fedledger.ledger_tools.report.refusals import ReportedReasons
from fedledger.ledger_tools.upkeep import open_seal
from fedledger.node.participant import Participant
from fedledger.node.solvers.base import LocalUpdate
from fedledger.platform.agents.attendance import Attendance
from fedledger.platform.engine.backends.base import Backend, Job, Work
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.checking import Checking
from fedledger.platform.engine.enrolment import ETHER, enrol, fund, goes_on, seat_judges
from fedledger.platform.engine.federation import Record, Round, play, require_quorum
from fedledger.platform.engine.ledger_agents import AgentParticipant, LedgerAgents
from fedledger.platform.engine.scoring import ScoringFigures, ScoringVerifiers, judges_needed, let_score
from fedledger.platform.engine.standstill import Standstill
from fedledger.platform.experiment.accounts import (
    AGGREGATOR,
    DEPLOYER,
    PUBLISHER,
    experiment_account,
    participant_role,
)
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.posted_task import posted_spec
from fedledger.platform.experiment.tested import Tested
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage import durable_files
from fedledger.storage.base import ContentStore
from fedledger.storage.durable_files import batched_writes
from fedledger.storage.models import Models

TASK = 1
"""The id of the one task that an experiment's ledger has."""


@dataclass(frozen=True)
class LedgerRound(Round):
    """A round that was settled or voided, with the reputations after it in ppm and the gas used up to it.

    ``scoring`` is what came of its scores, if the task has scorers.
    """

    reputations: tuple[int, ...] = ()
    gas: int = 0
    scoring: ScoringFigures | None = None


@dataclass(frozen=True)
class RoundMetrics:
    """What is shown of a round of a run with a ledger: loss and score on the test set, and the figures of its round."""

    round: int
    rounds: int
    tested: Tested
    score_name: str
    accepted: int
    refused: int
    reputations: tuple[int, ...]
    gas: int
    pay: int
    spent: int
    scoring: ScoringFigures | None = None

    @classmethod
    def of(cls, experiment: Experiment, closed: LedgerRound, spent: int = 0) -> RoundMetrics:
        """Return the metrics of a round, before which so many units had been paid."""
        pay = sum(closed.shares.values())
        return cls(
            round=closed.index,
            rounds=experiment.spec.all_rounds,
            tested=experiment.tested(closed.model),
            score_name=experiment.objective.score_name,
            accepted=closed.accepted,
            refused=closed.refused,
            reputations=closed.reputations,
            gas=closed.gas,
            pay=pay,
            spent=spent + pay,
            scoring=closed.scoring,
        )

    @property
    def row(self) -> dict[str, Any]:
        """The row of a table of metrics."""
        counts = {"accepted": self.accepted, "refused": self.refused, "gas": self.gas}
        money = {"pay": self.pay, "spent": self.spent}
        scored = {} if self.scoring is None else self.scoring.row
        return {"round": self.round, **self.tested.row(self.score_name), **counts, **money, **scored}


@dataclass(frozen=True)
class Run:
    """A run that has come to its end."""

    ledger: Ledger
    history: History
    task: TaskHistory
    deployment: Deployment
    metrics: tuple[dict[str, Any], ...]
    final: ModelFile
    tested: Tested
    seconds: float
    gas: int
    attendance: Attendance


@batched_writes()
def run(
    experiment: Experiment,
    chain: Chain,
    store: ContentStore,
    folder: Path,
    watch: Callable[[RoundMetrics], None] = lambda metrics: None,
    found: Deployment | None = None,
    backend: Backend | None = None,
) -> Run:
    """Run an experiment from where its ledger is to its end.

    Parameters
    ----------
    experiment
        The experiment.
    chain
        A development chain.
    store
        The content store.
    folder
        Where journals are kept, and the deployment's record.
    watch
        Called after every round that counts.
    found
        The deployment of a run that is resumed.
    backend
        Where participants are trained; in this process unless given.

    Raises
    ------
    RoundError
        If several rounds in a row are below quorum, voided, or of no use; see ``Standstill``.
    """
    started = time.monotonic()
    standstill = Standstill(lambda: experiment.tested(experiment.initial).loss)
    record = LedgerRecord(experiment, chain, store, folder, found)
    rows = list[dict[str, Any]]()
    for closed in play(record, backend or Serial(experiment)):
        if closed.counts:
            metrics = RoundMetrics.of(experiment, closed, rows[-1]["spent"] if rows else 0)
            rows.append(metrics.row)
            watch(metrics)
            standstill.look(closed, metrics.tested.loss)
    standstill.end()
    record.end_checks()
    record.open_seal()
    task = record.history.update().task(TASK)
    final = ModelFile.decode(store.get(task.model), experiment.spec.tensors)
    return Run(
        ledger=record.ledger,
        history=record.history,
        task=task,
        deployment=record.deployment,
        metrics=tuple(rows),
        final=final,
        tested=experiment.tested(final),
        seconds=time.monotonic() - started,
        gas=record.gas(),
        attendance=record.agents.attendance,
    )


class LedgerRecord(Record[LedgerRound]):
    """The rounds of a task on a ledger, which is deployed and in which the task is posted unless it is.

    Parameters
    ----------
    experiment
        The experiment.
    chain
        A development chain.
    store
        The content store.
    folder
        Where journals are kept, and the deployment's record.
    found
        The deployment of a run that is resumed.
    """

    def __init__(
        self, experiment: Experiment, chain: Chain, store: ContentStore, folder: Path, found: Deployment | None = None
    ) -> None:
        self._spec, self._chain, self._seal_key = experiment.spec, chain, experiment.seal_key
        seed = experiment.config.seed
        publisher, aggregator_account, deployer = (
            experiment_account(seed, role, chain) for role in (PUBLISHER, AGGREGATOR, DEPLOYER)
        )
        self._publisher = publisher
        require_others(experiment.spec, publisher.address)
        if found is None:
            chain.fund(deployer.address, ETHER)
            self.ledger, self.deployment = deploy(chain, deployer, experiment.ledger_settings())
            self.deployment.write(folder / "deployment.json")
        else:
            self.deployment, self.ledger = found, found.open(chain)
        self.history = History(self.ledger)
        self._modelled = TaskReputations()
        self._params = params = experiment.task_params(experiment.publish(store))
        if not self.history.update().tasks:
            chain.fund(publisher.address, params.budget + params.seal_deposit + ETHER)
            self.ledger.post_task(publisher, params, experiment.standbys())
        posted_spec(self.ledger, store, TASK, experiment)
        seat_judges(self.ledger, self.history, TASK, seed, judges_needed(self.ledger, params))
        if goes_on(self.ledger, TASK):
            chain.fund(aggregator_account.address, params.bond + 10 * ETHER)
        self._checking = Checking(experiment, chain, self.ledger, self.history, TASK, store, folder)
        self._scorers = ScoringVerifiers(experiment, chain, self.ledger, self.history, TASK, store, folder)
        self._mailbox = Mailbox(self.ledger, self.history, TASK, folder / "mailbox") if params.batched else None
        self._looks_back = experiment.looks_back
        self._store, self._models = store, Models(store, experiment.spec.tensors)
        self._planner = RoundPlanner(store)
        self.agents = LedgerAgents(experiment, self.history, TASK, self._planner)
        self._participants = self._enrolled(experiment, folder)
        self._numbers: dict[str, int] = {p.access.address: n for n, p in enumerate(self._participants)}
        access = TaskAccess(self.ledger, self.history, aggregator_account, store, TASK, experiment.spec)
        self._aggregator = Aggregator(access, experiment.measurer(), self._mailbox, trusted=experiment.trusted_update)
        # None: the aggregator has not looked at the ledger yet.
        self._seen: Situation | None = None
        self._steps: list[Step] = []
        self._idle = False
        self._voids = 0
        self._gas = self._next_block = 0
        self._closed_at = time.perf_counter()

    @property
    def acting(self) -> Sequence[Participant]:
        """The participants who do what comes next: all of them."""
        return self._participants

    def ask(self) -> Work | None:
        """Return the training of the current round that was not done before."""
        if self._seen is None or self._seen.phase is not Phase.COMMITTING or self._seen.current is None:
            return None
        task, current = self._seen.task, self._seen.current
        jobs, server = [], dict[str, NDArray[np.float32]]()
        for number in self._coming(current):
            updates = self._participants[number].updates
            context = updates.context(task, current)
            if context is not None:
                jobs.append(Job(number, updates.staleness(current), own=context.memory.own))
                server = dict(context.memory.server)
        if not jobs:
            return None
        needed = max(job.staleness for job in jobs) + 1
        bases = [self._models(ref).vector for ref in current.bases[:needed]]
        before = [task.rounds.get(current.index - ago) for ago in range(1, self._looks_back + 1)]
        bases += [self._models(earlier.base).vector for earlier in before if earlier is not None]
        return Work(current.index, bases, jobs, None if before[0] is None else needed, server)

    def keep(self, job: Job, trained: LocalUpdate) -> None:
        """Have the participant keep its update; who signs its commitment off the chain does so at once."""
        participant, seen = self._participants[job.number], self._open
        participant.updates.keep(self._current, trained)
        if seen.task.batched:
            self._steps.append(participant.act(Situation(seen.task, Phase.COMMITTING)))

    def look(self, job: Job) -> None:
        """Have the aggregator look at an update that will be revealed."""
        participant, current = self._participants[job.number], self._current
        ref, journal = current.bases[job.staleness], participant.updates.journal
        entry = journal.entry(current)
        if entry is not None:
            data, sender = journal.content(current.index), participant.access.address
            durable_files.begin()
            base = Based(self._models(ref), ref, job.staleness)
            committed = committed_examples(self._open.task, current, self._spec)
            count = None if committed is None else committed.get(sender, 0)
            self._aggregator.proposing.look(current.index, base, sender, data, entry.reference, count)

    def deliver(self) -> None:
        """Have all participants do what comes next."""
        if self._seen is not None:
            self._steps += [participant.act(self._seen) for participant in self.acting]
            self._steps += [*self._checking.act(), *self._scorers.act(self._seen)]

    def close(self) -> Iterator[LedgerRound]:
        """Have the aggregator act until it waits for participants, and yield the rounds that end meanwhile.

        The first time these are all rounds that the ledger has settled before.
        """
        if self._seen is None:
            for counted in self.history.update().task(TASK).counted:
                yield self._closed(counted)
        else:
            durable_files.begin()
            waited = all(step.is_idle for step in self._steps)
            if waited:
                self._pass_time()
            self._idle, self._steps = waited, []
        step = self._aggregator.step()
        while True:
            for action, index in step.actions:
                if action in (Action.SETTLED, Action.VOIDED):
                    yield self._ended(index, action is Action.VOIDED)
            if step.is_idle:
                break
            self._idle = False
            step = self._aggregator.step()
        # The aggregator has just read the ledger, and sent nothing since.
        self._seen, self.is_done = self._aggregator.seen, step.action is Action.DONE

    def end_checks(self) -> None:
        """Have the spot checks of the last rounds come to their end."""
        self._checking.end(self._participants)

    def open_seal(self) -> None:
        """Have the publisher open the validation set, if it is sealed: the task has ended."""
        if self._seal_key is not None:
            open_seal(self.ledger, self._publisher, TASK, self._seal_key)

    def gas(self, last: int | None = None) -> int:
        """Return the gas used up to a block, the newest unless it is given; blocks are asked for in order."""
        last = self._chain.block_number() if last is None else last
        self._gas += sum(self._chain.gas_used(number) for number in range(self._next_block, last + 1))
        self._next_block = last + 1
        return self._gas

    @property
    def _open(self) -> Situation:
        if self._seen is None:
            raise RoundError("No round is open.", "Ask for the training of a round first.")
        return self._seen

    @property
    def _current(self) -> RoundHistory:
        task = self._open.task
        return task.rounds[max(task.rounds)]

    def _enrolled(self, experiment: Experiment, folder: Path) -> Sequence[AgentParticipant]:
        """Return the participants, with money, and enrolled if they are many."""
        seed, params, planner = experiment.config.seed, self._params, self._planner
        roles = [participant_role(number) for number in range(experiment.config.participants)]
        accounts = [experiment_account(seed, role, self._chain) for role in roles]
        if goes_on(self.ledger, TASK):
            fund(self._chain, seed, accounts, params.min_stake + params.penalty + 2 * ETHER)
        participants = [
            AgentParticipant(
                TaskAccess(self.ledger, self.history, account, self._store, TASK, experiment.spec),
                folder / "journal" / account.address,
                experiment.trainer(number),
                self._mailbox,
                planner.base_of(self.history, TASK, experiment.spec, account.address),
                self._models,
            )
            for number, account in enumerate(accounts)
        ]
        for number, participant in enumerate(participants):
            let_score(participant, params, experiment, number)
            participant.updates.bidder = partial(experiment.report, number)
            participant.stay_away(partial(self._stays_away, number))
        enrol(self.ledger, self.history, TASK, participants)
        return participants

    def _coming(self, current: RoundHistory) -> list[int]:
        """Return the numbers of those who work in a round."""
        asked = [self._numbers[owner] for owner in current.owners.values() if owner in self._numbers]
        away = self.agents.away(current)
        return [number for number in asked if number not in away]

    def _stays_away(self, number: int, current: RoundHistory) -> bool:
        return number in self.agents.away(current)

    def _ended(self, index: int, voided: bool) -> LedgerRound:
        """Return a round that has just been settled or voided."""
        task = self.history.update().task(TASK)
        current = task.rounds[index]
        empty = voided or task.is_empty(current)
        if empty or not current.bidding:
            self._voids = self._voids + 1 if empty else 0
        remedy = "Lower the quorum, or find out why the nodes do not deliver."
        require_quorum(self._voids, self._params.quorum, remedy)
        self.agents.closed(current)
        return self._closed(current, empty)

    def _closed(self, current: RoundHistory, empty: bool = False) -> LedgerRound:
        if current.proposal is None and not empty:
            raise RoundError(f"Round {current.index} was settled without a proposal.")
        task, numbers = self.history.task(TASK), self._numbers
        owners = [(current.owners[i], verdict) for i, verdict in current.verdicts.items()]
        began, self._closed_at = self._closed_at, time.perf_counter()
        return LedgerRound(
            index=current.index,
            model=self._models(current.base if current.proposal is None or empty else current.proposal.model),
            verdicts={numbers[owner]: verdict for owner, verdict in owners if owner in numbers},
            seconds=self._closed_at - began,
            empty=empty,
            shares=self.agents.shares(current),
            bidding=current.bidding,
            reputations=self._reputations(task),
            gas=self._gas if empty else self.gas(current.settled_in),
            scoring=ScoringFigures.of(current, self.history, numbers) if task.is_scored(current) else None,
            details=self._details(current),
        )

    def _reputations(self, task: TaskHistory) -> tuple[int, ...]:
        history, enrolled = self.history, sorted(task.enrolled)
        if self._spec.reputation_model is None:
            return tuple(history.evidence(task.publisher, i).reputation for i in enrolled)
        return tuple(self._modelled(history, task, self._spec, len(history.applied), enrolled).values())

    def _details(self, current: RoundHistory) -> dict[int, str]:
        """Return what a round's report says of refused updates, where none counted."""
        if current.proposal is None or Verdict.ACCEPTED in current.verdicts.values():
            return {}
        reasons = ReportedReasons.read(self._store, current.proposal.report)
        owners = (self.history.owners[i] for i in current.verdicts)
        return {self._numbers[owner]: reasons.told(owner) for owner in owners if owner in self._numbers}

    def _pass_time(self) -> None:
        """Let a development chain's time pass when everybody waits for a deadline.

        In some phases it is the aggregator's turn, which it takes at its next step; if it waits then, too, it waits for
        the end of the phase.
        """
        its_turn = (Phase.SETTLEABLE, Phase.CLOSING, Phase.PROPOSING, Phase.OVERDUE)
        phase = self.ledger.phase(TASK)
        if phase is not Phase.FINISHED and (self._idle or phase not in its_turn):
            self._chain.advance(60)
