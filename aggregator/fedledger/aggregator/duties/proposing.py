"""How an aggregator proposes the outcome of a round."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from fedledger.aggregator.duties.commitments import Commitments
from fedledger.aggregator.duties.settlement import Settlement
from fedledger.aggregator.round.inputs import TrustedUpdate, proposal_of, round_input
from fedledger.aggregator.round.measurer import MOST_AHEAD, ForesightedMeasurer, Measurer, RoundMeasurer, in_round
from fedledger.aggregator.round.methods import RoundMethods
from fedledger.aggregator.round.outcome import Content, RoundInput, RoundOutcome, round_outcome
from fedledger.aggregator.round.pipeline import foreseen
from fedledger.aggregator.round.validation import Expected, Question, ValidUpdate, validate
from fedledger.aggregator.selection.planner import PlannedRound
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.calls import open_call, propose_call
from fedledger.contracts.ledger.records import Phase, Proposal
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.contracts.ledger.waits import Patience
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.report import MODEL
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage import durable_files

log = logging.getLogger(__name__)


class Based(NamedTuple):
    """A model that an update may be relative to, ``staleness`` before its round's own, and its reference."""

    model: ModelFile
    ref: ContentRef
    staleness: int


class Proposing:
    """The duty to propose the outcome of a round once its updates are there, or the time for them is over.

    Parameters
    ----------
    access
        The task, and the aggregator's account.
    commitments
        Completes batched rounds.
    settlement
        Settles, and opens, in the transaction of a proposal what can be.
    measure
        The measurer of the task's validation set.
    patience
        Seconds for which a revealed update that cannot be had is waited for; after them, or after a quarter of the
        propose period, its verdict is unavailable.
    trusted
        Makes the update that the aggregator trusts, for rules that ask for one.
    """

    def __init__(
        self,
        access: TaskAccess,
        commitments: Commitments,
        settlement: Settlement,
        measure: Measurer,
        patience: float = 0.0,
        trusted: TrustedUpdate | None = None,
    ) -> None:
        self.access = access
        self.commitments = commitments
        self.settlement = settlement
        self.measure = measure
        self.patience = patience
        self.trusted = trusted
        self._waits: tuple[RoundHistory, Patience] | None = None
        self._valid: tuple[int, dict[Question, ValidUpdate]] = (0, {})

    def __call__(self, seen: Situation) -> Step | None:
        """Propose the current round's outcome, if that is due."""
        if seen.current is None or seen.phase not in (Phase.REVEALING, Phase.PROPOSING):
            return None
        scored = seen.task.is_scored(seen.current)
        if scored and (seen.current.scoring is None or not seen.current.scoring.tallied):
            return None
        return self.propose(seen.task, seen.current, seen.phase)

    def look(
        self, index: int, base: Based, sender: str, data: bytes, ref: ContentRef, committed: int | None = None
    ) -> None:
        """Look at an update that will be revealed: who plays all parts has time for that while others still train.

        It changes no outcome; it only leaves less to do when the round is evaluated.

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
        committed
            How many examples the sender has committed to; None where the task does not ask for that.
        """
        if self._valid[0] != index:
            self._valid = index, {}
        spec, measure, valid = self.access.spec, in_round(self.measure, index), self._valid[1]
        expected = Expected(spec, index, base.ref.digest, base.model.dimension, committed)
        with suppress(UpdateRefusedError):
            update = validate(data, expected, sender, sender)
            if (len(valid) + 1) * update.delta.nbytes <= MOST_AHEAD:
                valid[expected.about(ref, sender, sender)] = update
            if isinstance(measure, ForesightedMeasurer):
                measure.ahead(sender, foreseen(spec, base.model.vector, update, base.staleness))

    def propose(self, task: TaskHistory, current: RoundHistory, phase: Phase) -> Step | None:
        """Propose a round's outcome; None as long as updates may still come."""
        if self._waits is None or self._waits[0] is not current:
            self._waits = current, Patience()
        waits = self._waits[1]
        if not waits.over():
            return None
        access, commitments = self.access, None
        if task.batched:
            completed = self.commitments.completed(current, phase)
            if completed is None:
                return None
            current, commitments = completed
        elif phase is Phase.REVEALING and current.scoring is None and set(current.commits) - set(current.reveals):
            return None
        planner, known = self.settlement.opening.planner, (access.history, task, access.spec, current)
        planned = PlannedRound(planner.bases(*known), planner.reputations(*known), planner.trade(*known))
        given = round_input(access.store, access.spec, task, current, commitments=commitments, planned=planned)
        if self._valid[0] == current.index:
            given = replace(given, valid=self._valid[1])
        absent = [owner for owner, update in given.updates.items() if _is_unavailable(update)]
        left = waits.left(min(self.patience, task.params.propose_period / 4)) if absent else 0.0
        if left:
            who = ", ".join(absent)
            log.warning("round %d: waiting for the updates of %s, for %.0f s at most", current.index, who, left)
            return None
        given = replace(
            given, trusted=self._trusted_in(current.index, given.base), block=self._opened_in(current.index)
        )
        outcome = self.outcome(given)
        self._store(task, given, outcome)
        proposal = proposal_of(outcome, current if task.batched else None)
        return replace(self._post(task, current.index, proposal), detail=_told(outcome, access.spec))

    def outcome(self, given: RoundInput) -> RoundOutcome:
        """Return what follows from a round's input."""
        return round_outcome(given, in_round(self.measure, given.index))

    def _trusted_in(self, index: int, base: ModelFile) -> Content | None:
        """Return the update that this aggregator trusts in a round, if the task's rule asks for one."""
        needed = RoundMethods.of(self.access.spec).rule.method.needs_trusted
        return Content.of(self.trusted(index, base)) if needed and self.trusted is not None else None

    def _opened_in(self, index: int) -> Content | None:
        """Return the block of the validation set that is opened with a round, if the task's is opened in blocks."""
        opened = self.measure.opened(index) if isinstance(self.measure, RoundMeasurer) else None
        return None if opened is None else Content.of(opened)

    def _store(self, task: TaskHistory, given: RoundInput, outcome: RoundOutcome) -> None:
        store = self.access.store
        shown = [content for content in (given.trusted, given.block) if content is not None]
        for data, ref in (outcome.model, outcome.state, outcome.report, *shown):
            store.put(data, ref=ref)
        if task.params.challenge_window:
            # Whoever cannot show the evaluated content loses a dispute, even if its sender no longer serves it.
            for update in given.updates.values():
                if isinstance(update, bytes):
                    store.put(update)
        durable_files.begin()

    def _post(self, task: TaskHistory, index: int, proposal: Proposal) -> Step:
        """Propose; settle and open in the same transaction what can be, as one of its own costs more for each."""
        access, settlement, opening = self.access, self.settlement, self.settlement.opening
        proposed = replace(task.rounds[index], proposal=proposal)
        pending = [*(r for r in task.unfinal if r.proposal is not None), proposed]
        due = settlement.due(task, pending)
        calls = [settlement.call(r) for r in due]
        calls.insert(len(due) - (proposed in due), propose_call(access.task, index, proposal))
        also = [(Action.SETTLED, r.index) for r in due]
        if opening.may_join(task, due, pending[len(due) :]):
            following = replace(task, rounds={**task.rounds, index: proposed})
            calls.append(open_call(access.task, index + 1, opening.selection(following, index + 1)))
            also.append((Action.OPENED, index + 1))
        step = Step(Action.PROPOSED, access.task, index)
        if also and access.ledger.send_calls(access.account, calls) is not None:
            return replace(step, also=tuple(also))
        access.ledger.propose_round(access.account, access.task, index, proposal)
        return step


def _told(outcome: RoundOutcome, spec: TaskSpec) -> str:
    """Say how good a round's model is on the validation set, and how many updates it is made of."""
    measured = outcome.document["measurements"][MODEL]
    accepted = sum(verdict is Verdict.ACCEPTED for verdict in outcome.verdicts.values())
    quality = f"loss {measured['loss'] / 1e6:.4f}, {spec.score_key} {measured[spec.score_key]}"
    heard = sum(verdict is Verdict.HEARD for verdict in outcome.verdicts.values())
    if heard:
        return f"{heard} of {len(outcome.verdicts)} bids heard"
    return f"{quality}; {accepted} of {len(outcome.verdicts)} updates accepted"


def _is_unavailable(update: bytes | UpdateRefusedError) -> bool:
    return isinstance(update, UpdateRefusedError) and update.verdict is Verdict.UNAVAILABLE
