"""The round driver: an aggregator that asks the ledger where its task is, and does what comes next."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from eth_account.signers.local import LocalAccount

from fedledger.aggregator.mailbox.mailbox import Mailbox
from fedledger.aggregator.round.batches import complete, opened, place_of, posted_batch
from fedledger.aggregator.round.inputs import proposal_of, round_input
from fedledger.aggregator.round.measurer import MOST_AHEAD, ForesightedMeasurer, Measurer
from fedledger.aggregator.round.outcome import RoundInput, RoundOutcome, round_outcome
from fedledger.aggregator.round.pipeline import foreseen
from fedledger.aggregator.round.validation import Expected, Question, ValidUpdate, validate
from fedledger.aggregator.selection.planner import RoundPlanner
from fedledger.contracts.abi import RevertedError
from fedledger.contracts.ledger.calls import open_call, propose_call, settle_call
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus, Phase, Proposal
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ContentUnavailableError, RoundError
from fedledger.protocol.records.commitment_batch import Batch, Opening, SignedCommitment
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.signatures import commitment_message, recover
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage import durable_files
from fedledger.storage.base import ContentStore

log = logging.getLogger(__name__)


RACES = frozenset(
    {
        *("PreviousRoundOpen", "RoundNotOpen", "NotProposed", "WrongRound", "NotOverdue", "ProposalOverdue"),
        *("CommitsAreOpen", "RevealsAreOpen", "BelowQuorum", "WindowOpen", "InsufficientBalance", "EnrolmentOpen"),
        *("TooManyUnfinal", "TaskAlreadyFinished", "NotEnrolled", "TooFewParticipants", "NotYourTurn", "NotClosing"),
        *("DisputesOpen", "RoundsExhausted", "TaskNotFinishable", "DisputeIsClosed", "AlreadyPunished"),
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
    ADVANCED = "settled in part"
    SETTLED = "settled"
    VOIDED = "voided"
    ANSWERED = "commitment shown"
    REPORTED = "equivocation reported"
    FINISHED = "finished"
    DONE = "done"


@dataclass(frozen=True)
class Step:
    """One step of an aggregator: what it did, in which round, with the round's outcome if it proposed.

    ``also`` is what the same transaction did besides, in order; ``phase`` is where the task was before the step.
    """

    act: Act
    round: int = 0
    outcome: RoundOutcome | None = None
    also: tuple[tuple[Act, int], ...] = ()
    phase: Phase | None = None

    @property
    def acts(self) -> tuple[tuple[Act, int], ...]:
        """All that was done, and in which rounds."""
        return ((self.act, self.round), *self.also)

    def __str__(self) -> str:
        return ", ".join(f"round {index} {act.value}" for act, index in self.acts)


class Based(NamedTuple):
    """A model that an update may be relative to, ``staleness`` before its round's own, and its reference."""

    model: ModelFile
    ref: ContentRef
    staleness: int


class Aggregator:
    """One of a task's aggregators. It keeps nothing that the ledger and the store do not hold.

    The active one does what its task needs next. A standby does the same as soon as it is its turn: one propose period
    after the one before it should have acted.

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
    url
        Where participants reach the mailbox; it is announced on the ledger.
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
        url: str | None = None,
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
        self.url = url
        self._seated = False
        self._unanswered: set[int] = set()
        self._unusable: set[int] = set()
        self._waits: Waits | None = None
        self._plans = RoundPlanner(store)
        self._valid: tuple[int, dict[Question, ValidUpdate]] = (0, {})

    def look(self, index: int, base: Based, sender: str, data: bytes, ref: ContentRef) -> None:
        """Look at an update that will be revealed: who plays all parts has time for that while others still train.

        Nothing follows from it but that less is left to be done when the round is judged.

        Parameters
        ----------
        index
            The round.
        base
            The model that the update is relative to.
        sender
            Owner and signer of the update.
        data, ref
            Its bytes and their reference.
        """
        if self._valid[0] != index:
            self._valid = index, {}
        valid, expected = self._valid[1], Expected(self.spec, index, base.ref.digest, len(base.model.vector))
        with suppress(UpdateRefusedError):
            update = validate(data, expected, sender, sender)
            if (len(valid) + 1) * update.delta.nbytes <= MOST_AHEAD:
                valid[expected.about(ref, sender, sender)] = update
            if isinstance(self.measure, ForesightedMeasurer):
                self.measure.ahead(sender, foreseen(self.spec, base.model.vector, update.delta, base.staleness))

    def step(self) -> Step:
        """Do what comes next, if anything."""
        folds = self.history.folds
        phase = self.ledger.phase(self.task)
        task = self.history.update().task(self.task)
        current = max(task.rounds, default=0)
        try:
            return replace(self._next(task, current, phase), phase=phase)
        except RevertedError as error:
            # What the seat held was forfeited, or a reorganisation took it back.
            self._seated = self._seated and error.name != "InsufficientBalance"
            # Any other refusal stands, unless what was read was reorganised.
            if error.name not in RACES and self.history.update().folds == folds:
                raise
            log.warning("round %d: %s", current, error)
        return Step(Act.WAITED, current, phase=phase)

    def _next(self, task: TaskHistory, current: int, phase: Phase) -> Step:
        if phase is Phase.FINISHED:
            return Step(Act.DONE, current)
        answered = self._answer(task) or self._report(task)
        if answered is not None:
            return answered
        self._take_seat(task)
        if self.url is not None and self.history.endpoints.get(self.account.address) != self.url:
            self.ledger.announce(self.account, self.url)
        if task.seats[task.active] != self.account.address and not self.ledger.may_act(self.task, self.account.address):
            return Step(Act.WAITED, current)
        step = Step(Act.WAITED, current)
        if current in task.rounds:
            step = self._work(task, task.rounds[current], phase)
        return step if step.act is not Act.WAITED else self._finalise(task, step, phase)

    def _answer(self, task: TaskHistory) -> Step | None:
        """Show a commitment that somebody demands to see, and that was claimed by this aggregator."""
        for dispute in self.history.disputes:
            demanded = dispute.kind is DisputeKind.COMMITMENT and dispute.status is DisputeStatus.OPEN
            if not demanded or dispute.task != self.task or dispute.id in self._unanswered:
                continue
            current = task.rounds[dispute.round]
            if current.voided or current.proposer != self.account.address:
                continue
            try:
                batch = self._batch(current)
                signed, proof = batch.by_participant.get(dispute.subject), batch.proof(dispute.subject)
                if signed is not None and proof is not None and self._is_signed(current, signed):
                    self.ledger.show_commitment(self.account, dispute.id, signed, proof)
                    return Step(Act.ANSWERED, current.index)
                log.error("round %d: participant %d has no commitment to show", current.index, dispute.subject)
            except RoundError as error:
                log.error("round %d: %s", current.index, error)
            self._unanswered.add(dispute.id)
        return None

    def _is_signed(self, current: RoundHistory, signed: SignedCommitment) -> bool:
        place = place_of(self.ledger, self.task)
        message = commitment_message(place, current.index, signed.participant, signed.commitment)
        return recover(message, signed.signature) in self.history.all_signers[signed.participant]

    def _report(self, task: TaskHistory) -> Step | None:
        """Have a participant punished that left two commitments for one round."""
        if self.mailbox is None or not task.params.penalty:
            return None
        for current in task.unfinal:
            for first, second in self.mailbox.equivocations(current.index):
                if (self.task, current.index, first.participant) not in self.history.equivocated:
                    self.ledger.report_equivocation(self.account, self.task, current.index, first, second)
                    return Step(Act.REPORTED, current.index)
        return None

    def _take_seat(self, task: TaskHistory) -> None:
        """Deposit the bond, without which nothing is this aggregator's turn."""
        if self._seated:
            return
        bond = task.params.bond
        own = next((s for s in self.ledger.seats(self.task) if s.holder == self.account.address), None)
        if own is None:
            raise RoundError(
                f"{self.account.address} is no aggregator of task {self.task}.",
                f"Use the account of one of: {', '.join(task.seats)}.",
            )
        if own.deposit < bond:
            self.ledger.take_seat(self.account, self.task)
        self._seated = True

    def _work(self, task: TaskHistory, current: RoundHistory, phase: Phase) -> Step:
        """Do what the current round needs to go on, before its deadline."""
        if task.batched and phase in (Phase.COMMITTING, Phase.CLOSING):
            return self._close(current, phase)
        if phase in (Phase.REVEALING, Phase.PROPOSING):
            return self._propose(task, current, phase)
        if phase is Phase.OVERDUE:
            self.ledger.void_round(self.account, self.task, current.index)
            log.warning("round %d voided: too few committed, or not proposed in time", current.index)
            return Step(Act.VOIDED, current.index)
        return Step(Act.WAITED, current.index)

    def _finalise(self, task: TaskHistory, waited: Step, phase: Phase) -> Step:
        """Settle what has to be, and open a round or end the task where the current one is out of hand."""
        proposed = [r for r in task.unfinal if r.proposal is not None]
        due = self._due(task, proposed)
        if due:
            return self._settle(task, due)
        idle = phase in (Phase.ENROLLING, Phase.IDLE)
        if proposed:
            idle = len(proposed) == len(task.unfinal) and self._may_open(task, [], proposed)
        return self._open_or_finish(task, phase) if idle else waited

    def _due(self, task: TaskHistory, proposed: Sequence[RoundHistory]) -> list[RoundHistory]:
        """Return the proposed rounds that are settled now, in order: all that can be, and none before one has to be.

        Rounds that settle in one transaction share the cost of what they write. One has to be settled before another
        one can be opened, before the task can end, and before somebody else earns a bounty for it.
        """
        may_wait = self._may_open(task, [], proposed)
        if not proposed or (may_wait and not self._is_late(task, proposed[0])):
            return []
        return list(itertools.takewhile(lambda r: self._can_settle(task, r), proposed))

    def _is_late(self, task: TaskHistory, oldest: RoundHistory) -> bool:
        """Return whether a round could have been settled half a propose period ago; after a whole one it costs."""
        if self.ledger.settleable(self.task) != oldest.index:
            return False
        grace = task.params.challenge_window + task.params.propose_period // 2
        return self.ledger.chain.now() >= self.ledger.round(self.task, oldest.index).proposed_at + grace

    def _can_settle(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether a round can be settled now, if those before it are."""
        window, known = task.params.challenge_window, task.rounds[current.index].proposal
        if known is None:
            # It is being proposed in the same transaction.
            return not window
        if not known.is_readable:
            return False
        if self.ledger.settleable(self.task) == current.index:
            return True
        record = self.ledger.round(self.task, current.index)
        return not record.disputes and self.ledger.chain.now() >= record.proposed_at + window

    def _open_or_finish(self, task: TaskHistory, phase: Phase) -> Step:
        index = max(task.rounds, default=0) + 1
        proposals = [r.proposal for r in task.settled if r.proposal is not None]
        if any(proposal.stop for proposal in proposals) or len(task.counted) >= self.spec.rounds:
            self.ledger.finish_task(self.account, self.task)
            return Step(Act.FINISHED, index - 1)
        if index == 1:
            record = self.ledger.task(self.task)
            full = record.enrolled == record.params.max_participants
            # Somebody may have enrolled since the history was read: a selection among fewer would be a lie.
            if len(task.enrolled) != record.enrolled or (phase is Phase.ENROLLING and not full):
                return Step(Act.WAITED)
        try:
            self.ledger.open_round(self.account, self.task, self._selection(task, index))
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
        content = self.store.put(batch.encode())
        count = len(batch.commitments)
        self.ledger.close_commits(self.account, self.task, current.index, batch.root, count, content)
        return Step(Act.CLOSED, current.index)

    def _propose(self, task: TaskHistory, current: RoundHistory, phase: Phase) -> Step:
        if self._waits is None or self._waits.round is not current:
            self._waits = Waits(current)
        if not self._waits.over():
            return Step(Act.WAITED, current.index)
        commitments = None
        if task.batched:
            completed = self._completed(current, phase)
            if completed is None:
                return Step(Act.WAITED, current.index)
            current, commitments = completed
        elif phase is Phase.REVEALING and set(current.commits) - set(current.reveals):
            return Step(Act.WAITED, current.index)
        due = self._plans.bases(self.history, task, self.spec, current)
        given = round_input(self.store, self.spec, task, current, commitments=commitments, due=due)
        if self._valid[0] == current.index:
            given = replace(given, valid=self._valid[1])
        absent = [owner for owner, update in given.updates.items() if _is_unavailable(update)]
        patience = min(self.patience, task.params.propose_period / 4)
        if absent and self._waits.on(patience):
            log.warning("round %d: waiting for the updates of %s", current.index, ", ".join(absent))
            return Step(Act.WAITED, current.index)
        outcome = self._judge(given)
        for data, ref in (outcome.model, outcome.state, outcome.report):
            self.store.put(data, ref=ref)
        if task.params.challenge_window:
            # A dispute is lost by who cannot show what was judged, even if its sender does not serve it any more.
            for update in given.updates.values():
                if isinstance(update, bytes):
                    self.store.put(update)
        durable_files.begin()
        proposal = proposal_of(outcome, current if task.batched else None)
        return self._post(task, current.index, proposal, outcome)

    def _post(self, task: TaskHistory, index: int, proposal: Proposal, outcome: RoundOutcome) -> Step:
        """Propose; settle and open in the same transaction what can be, as one of its own costs more for each."""
        proposed = replace(task.rounds[index], proposal=proposal)
        pending = [*(r for r in task.unfinal if r.proposal is not None), proposed]
        due = self._due(task, pending)
        calls = [self._settling(r) for r in due]
        calls.insert(len(due) - (proposed in due), propose_call(self.task, index, proposal))
        also = [(Act.SETTLED, r.index) for r in due]
        if self.spec.randomness == "spec" and self._may_open(task, due, pending[len(due) :]):
            following = replace(task, rounds={**task.rounds, index: proposed})
            calls.append(open_call(self.task, self._selection(following, index + 1)))
            also.append((Act.OPENED, index + 1))
        if also and self.ledger.together(self.account, calls) is not None:
            return Step(Act.PROPOSED, index, outcome, tuple(also))
        self.ledger.propose_round(self.account, self.task, index, proposal)
        return Step(Act.PROPOSED, index, outcome)

    def _may_open(self, task: TaskHistory, settled: Sequence[RoundHistory], pending: Sequence[RoundHistory]) -> bool:
        """Return whether the next round may be opened after some have been settled and while others are pending."""
        counted = len(task.counted) + sum(not task.is_empty(r) for r in settled)
        stops = any(r.proposal is not None and r.proposal.stop for r in (*settled, *pending))
        room = len(pending) < task.params.max_unfinal
        return room and not stops and counted + len(pending) < self.spec.rounds

    def _settling(self, due: RoundHistory) -> bytes:
        if due.proposal is None:
            raise ValueError("only proposed rounds are settled")
        return settle_call(self.task, due.index, due.proposal, len(due.proposal.verdict_words) - due.applied)

    def _judge(self, given: RoundInput) -> RoundOutcome:
        return round_outcome(given, self.measure)

    def _completed(self, current: RoundHistory, phase: Phase) -> tuple[RoundHistory, ContentRef] | None:
        """Return a batched round with all that was left in the mailbox, and its batch; None if that takes time."""
        if current.root is None:
            # The ledger was reorganised after it told the phase.
            return None
        openings = self._mailbox().openings(current.index)
        openings |= {i: Opening(r.update, r.salt, r.staleness) for i, r in current.reveals.items()}
        try:
            sealed = self._batch(current)
            committed = set(sealed.by_participant) | set(current.commits)
            openings = {i: opening for i, opening in openings.items() if i in committed}
            if phase is Phase.REVEALING and committed - set(openings):
                return None
            batch = opened(sealed, openings)
            updates = {i: opening.update for i, opening in openings.items()}
            return complete(current, batch, updates, place_of(self.ledger, self.task)), self.store.put(batch.encode())
        except (RoundError, ContentUnavailableError) as error:
            # If another aggregator posted what nobody can propose anything for, the round will be voided.
            if current.index not in self._unusable:
                self._unusable.add(current.index)
                log.error("round %d cannot be proposed: %s", current.index, error)
            return None

    def _batch(self, current: RoundHistory) -> Batch:
        """Return the batch of the root that was posted: this aggregator's own, or the one that another one stored."""
        sealed = self._mailbox().sealed(current.index)
        if sealed is not None and sealed.root == current.root:
            return sealed
        return posted_batch(self.store, current)

    def _mailbox(self) -> Mailbox:
        if self.mailbox is None:
            raise RoundError("A batched task needs a mailbox.", "Start the aggregator with --listen HOST:PORT.")
        return self.mailbox

    def _settle(self, task: TaskHistory, due: Sequence[RoundHistory]) -> Step:
        """Settle rounds, as many as fit one transaction, and open the next one in it if that may be."""
        for count in range(len(due), 0, -1):
            settled, pending = due[:count], task.unfinal[count:]
            calls, acts = [self._settling(r) for r in settled], [(Act.SETTLED, r.index) for r in settled]
            free = all(r.proposal is not None for r in pending)
            # A beacon's selection follows from what the settlement makes of the beacon.
            if free and self.spec.randomness == "spec" and self._may_open(task, settled, pending):
                following = max(task.rounds) + 1
                calls.append(open_call(self.task, self._selection(task, following)))
                acts.append((Act.OPENED, following))
            if len(calls) > 1 and self.ledger.together(self.account, calls) is not None:
                return Step(*acts[0], also=tuple(acts[1:]))
        first = due[0]
        if first.proposal is None:
            raise ValueError("only proposed rounds are settled")
        done = self.ledger.settle_round(self.account, self.task, first.index, first.proposal, first.applied)
        return Step(Act.SETTLED if done == len(first.proposal.verdict_words) else Act.ADVANCED, first.index)

    def _selection(self, task: TaskHistory, index: int) -> list[int] | None:
        """Return the ids that a round is for, or None for everybody who is enrolled: the ledger need not write them."""
        beacon = task.beacons[max(task.beacons)] if task.beacons else bytes(32)
        chosen = self._plans.selected(self.history, task, self.spec, index, beacon)
        return None if set(chosen) == set(task.enrolled) else chosen


class Waits:
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
