"""The round driver: an aggregator that asks the ledger where its task is, and does what comes next."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from enum import Enum

from eth_account.signers.local import LocalAccount

from fedledger.aggregator.batches import complete, place_of
from fedledger.aggregator.judge import Measurer, RoundInput, RoundOutcome, judge
from fedledger.aggregator.mailbox import Mailbox
from fedledger.aggregator.selection import SELECTIONS
from fedledger.aggregator.validation import fetch
from fedledger.contracts.abi import RevertedError
from fedledger.contracts.client import Ledger, Phase, Proposal
from fedledger.contracts.history import History, RoundHistory, TaskHistory
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.errors import RoundError
from fedledger.protocol.model import ModelFile
from fedledger.protocol.parameters import build
from fedledger.protocol.settlement import pack_words, updates_hash
from fedledger.protocol.spec import TaskSpec
from fedledger.protocol.store import ContentStore
from fedledger.protocol.streams import Stream, derive_seed, stream
from fedledger.protocol.update import UpdateRefusedError
from fedledger.protocol.verdicts import Verdict

log = logging.getLogger(__name__)

RACES = frozenset(
    {
        *("PreviousRoundOpen", "RoundNotOpen", "NotProposed", "WrongRound", "NotOverdue", "ProposalOverdue"),
        *("CommitsAreOpen", "RevealsAreOpen", "BelowQuorum", "WindowOpen", "InsufficientBond", "EnrolmentOpen"),
        *("TooManyUnfinal", "TaskAlreadyFinished", "NotEnrolled", "TooFewParticipants"),
    }
)
"""Refusals that mean that the ledger has moved between the question and the transaction."""
FIRST_LOOK = 0.25


class Act(Enum):
    """What an aggregator did in one step."""

    WAITED = "waited"
    OPENED = "opened"
    CLOSED = "commitments closed"
    PROPOSED = "proposed"
    SETTLED = "settled"
    VOIDED = "voided"
    FINISHED = "finished"
    DONE = "done"


@dataclass(frozen=True)
class Step:
    """One step of an aggregator: what it did, in which round, with the round's outcome if it proposed."""

    act: Act
    round: int = 0
    outcome: RoundOutcome | None = None


class Aggregator:
    """The active aggregator of a task. It keeps nothing that the ledger and the store do not hold.

    Parameters
    ----------
    ledger, history
        The ledger, and its state from logs (may be shared).
    account
        The aggregator's account.
    task
        The task's id.
    store
        Where updates are fetched and results stored.
    measure
        The measurer of the task's validation set.
    mailbox
        Where participants of a batched task leave their commitments; a direct task needs none.
    patience
        Seconds for which a revealed update that cannot be had is waited for; after them, or after a quarter of the
        propose period, it is judged unavailable.
    """

    def __init__(
        self,
        ledger: Ledger,
        history: History,
        account: LocalAccount,
        task: int,
        store: ContentStore,
        spec: TaskSpec,
        measure: Measurer,
        mailbox: Mailbox | None = None,
        patience: float = 0.0,
    ) -> None:
        self.ledger = ledger
        self.history = history
        self.account = account
        self.task = task
        self.store = store
        self.spec = spec
        self.measure = measure
        self.mailbox = mailbox
        self.patience = patience
        self._waits: _Waits | None = None

    def step(self) -> Step:
        """Do what comes next, if anything."""
        folds = self.history.folds
        phase = self.ledger.phase(self.task)
        task = self.history.update().task(self.task)
        current = max(task.rounds, default=0)
        try:
            return self._next(task, current, phase)
        except RevertedError as error:
            # Any other refusal stands, unless what was read was reorganised.
            if error.name not in RACES and self.history.update().folds == folds:
                raise
            log.warning("round %d: %s", current, error)
        return Step(Act.WAITED, current)

    def _next(self, task: TaskHistory, current: int, phase: Phase) -> Step:
        if phase is Phase.FINISHED:
            return Step(Act.DONE, current)
        if phase in (Phase.ENROLLING, Phase.IDLE):
            return self._open_or_finish(task, phase)
        if current in task.rounds:
            if task.batched and phase in (Phase.COMMITTING, Phase.CLOSING):
                return self._close(task.rounds[current], phase)
            if phase is Phase.PROPOSING or (task.batched and phase is Phase.REVEALING):
                return self._propose(task, task.rounds[current], phase)
        if phase is Phase.SETTLEABLE:
            return self._settle(task)
        if phase is Phase.OVERDUE:
            self.ledger.void_round(self.account, self.task, current)
            log.warning("round %d voided: below quorum, or not proposed in time", current)
            return Step(Act.VOIDED, current)
        return Step(Act.WAITED, current)

    def _open_or_finish(self, task: TaskHistory, phase: Phase) -> Step:
        settled, index = task.settled, max(task.rounds, default=0) + 1
        stopped = bool(settled) and settled[-1].proposal is not None and settled[-1].proposal.stop
        if stopped or len(settled) >= self.spec.rounds:
            self.ledger.finish_task(self.account, self.task)
            return Step(Act.FINISHED, index - 1)
        if index == 1:
            record = self.ledger.task(self.task)
            full = record.enrolled == record.params.max_participants
            # Somebody may have enrolled since the history was read: a selection among fewer would be a lie.
            if len(task.enrolled) != record.enrolled or (phase is Phase.ENROLLING and not full):
                return Step(Act.WAITED)
        try:
            self.ledger.open_round(self.account, self.task, select(self.history, task, self.spec, index))
        except RevertedError as error:
            # While a task enrols, who was enrolled and is not any more may still come back.
            if error.name == "TooFewParticipants" and self.ledger.phase(self.task) is not Phase.ENROLLING:
                raise RoundError(
                    f"Round {index} has {error.arguments[0]} participants and needs {error.arguments[1]}.",
                    "Start more nodes, or end the task.",
                ) from error
            raise
        return Step(Act.OPENED, index)

    def _close(self, current: RoundHistory, phase: Phase) -> Step:
        """Post the root once all commitments are in, or the time for them is over."""
        mailbox = self._mailbox()
        if phase is Phase.COMMITTING and not mailbox.committed(current.index).issuperset(current.selected):
            return Step(Act.WAITED, current.index)
        batch = mailbox.seal(current.index)
        self.ledger.close_commits(self.account, self.task, current.index, batch.root, len(batch.commitments))
        return Step(Act.CLOSED, current.index)

    def _propose(self, task: TaskHistory, current: RoundHistory, phase: Phase) -> Step:
        if self._waits is None or self._waits.round is not current:
            self._waits = _Waits(current)
        if not self._waits.over():
            return Step(Act.WAITED, current.index)
        commitments = None
        if task.batched:
            openings = self._mailbox().openings(current.index)
            openings |= {i: (reveal.update, reveal.salt) for i, reveal in current.reveals.items()}
            sealed = self._mailbox().seal(current.index)
            committed = set(sealed.by_participant) | set(current.commits)
            if (phase is Phase.REVEALING and committed - set(openings)) or len(openings) < int(task.params["quorum"]):
                return Step(Act.WAITED, current.index)
            batch = replace(sealed, salts={i: salt for i, (_, salt) in openings.items()})
            updates = {i: update for i, (update, _) in openings.items()}
            current = complete(current, batch, updates, place_of(self.ledger, self.task))
            commitments = self.store.put(batch.encode())
        given = round_input(self.store, self.spec, task, current, commitments=commitments)
        absent = [owner for owner, update in given.updates.items() if _is_unavailable(update)]
        patience = min(self.patience, int(task.params["proposePeriod"]) / 4)
        if absent and self._waits.on(patience):
            log.warning("round %d: waiting for the updates of %s", current.index, ", ".join(absent))
            return Step(Act.WAITED, current.index)
        outcome = judge(given, self.measure)
        for content in (outcome.model, outcome.state, outcome.report):
            self.store.put(content)
        proposal = proposal_of(outcome, current if task.batched else None)
        bond = int(task.params["bond"])
        missing = max(0, bond - self.ledger.free_balance(self.account.address))
        self.ledger.propose_round(self.account, self.task, current.index, proposal, missing)
        return Step(Act.PROPOSED, current.index, outcome)

    def _mailbox(self) -> Mailbox:
        if self.mailbox is None:
            raise RoundError("A batched task needs a mailbox.", "Start the aggregator with --listen HOST:PORT.")
        return self.mailbox

    def _settle(self, task: TaskHistory) -> Step:
        index = min((i for i, r in task.rounds.items() if not r.settled and not r.voided), default=0)
        proposal = task.rounds[index].proposal if index else None
        if proposal is None:
            return Step(Act.WAITED, index)
        self.ledger.settle_round(self.account, self.task, index, proposal)
        return Step(Act.SETTLED, index)


class _Waits:
    """Waits for one round's updates: longer each time, until patience ends."""

    def __init__(self, round_history: RoundHistory) -> None:
        self.round = round_history
        self._began = self._until = time.monotonic()
        self._pause = FIRST_LOOK

    def over(self) -> bool:
        """Return whether it is time to look at the updates."""
        return time.monotonic() >= self._until

    def on(self, patience: float) -> bool:
        """Return whether to wait on."""
        now = time.monotonic()
        self._until, self._pause = min(now + self._pause, self._began + patience), 2 * self._pause
        return now < self._began + patience


def _is_unavailable(update: bytes | UpdateRefusedError) -> bool:
    return isinstance(update, UpdateRefusedError) and update.verdict is Verdict.UNAVAILABLE


def select(history: History, task: TaskHistory, spec: TaskSpec, index: int) -> list[int]:
    """Return the ids that the spec's selection chooses for a round."""
    by_owner = {history.owners[participant]: participant for participant in task.enrolled}
    owners = sorted(by_owner, key=str.lower)
    method = build(SELECTIONS, spec.selection.method, spec.selection.params)
    if spec.randomness == "spec":
        draws = stream(spec.digest, "selection", index)
    else:
        beacon = task.beacons[max(task.beacons)] if task.beacons else bytes(32)
        draws = Stream(derive_seed(spec.digest, "selection " + beacon.hex(), index))
    return [by_owner[owner] for owner in method(owners, draws)]


def round_input(
    store: ContentStore,
    spec: TaskSpec,
    task: TaskHistory,
    current: RoundHistory,
    unavailable: frozenset[str] = frozenset(),
    commitments: ContentRef | None = None,
) -> RoundInput:
    """Gather what a round's outcome follows from; updates named ``unavailable`` are not looked for.

    A batched round is given as its batch completes it, with the reference of that batch.
    """
    updates: dict[str, bytes | UpdateRefusedError] = {}
    for seat in current.seats:
        if seat.update is None:
            continue
        try:
            if seat.owner in unavailable:
                raise UpdateRefusedError(Verdict.UNAVAILABLE, "the report says so")
            updates[seat.owner] = fetch(store, seat.update, spec.limits.max_update_bytes)
        except UpdateRefusedError as error:
            updates[seat.owner] = error
    return RoundInput(
        spec=spec,
        index=current.index,
        base=ModelFile.decode(store.get(current.base)),
        base_ref=current.base,
        state=previous_state(store, task, current.index),
        seats=current.seats,
        updates=updates,
        units=int(task.params["unitsPerRound"]),
        commitments=commitments,
    )


def previous_state(store: ContentStore, task: TaskHistory, index: int) -> bytes:
    """Return the aggregator's state that the last proposed, not voided, round before ``index`` left."""
    before = [r for i, r in sorted(task.rounds.items()) if i < index and r.proposal is not None and not r.voided]
    if not before or before[-1].proposal is None:
        return b""
    return store.get(before[-1].proposal.state)


def proposal_of(outcome: RoundOutcome, batched: RoundHistory | None = None) -> Proposal:
    """Return the proposal that an honest aggregator posts for an outcome; that of a batched round names its updates."""
    verdict_words, share_words = pack_words(outcome.verdicts, outcome.shares)
    updates = () if batched is None else tuple(batched.reveals[i].update for i in sorted(batched.reveals))
    return Proposal(
        model=ContentRef.of(outcome.model),
        state=ContentRef.of(outcome.state),
        report=ContentRef.of(outcome.report),
        stop=outcome.stop,
        verdict_words=tuple(verdict_words),
        share_words=tuple(share_words),
        updates_hash=bytes(32) if batched is None else updates_hash(updates),
        updates=updates,
    )
