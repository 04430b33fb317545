"""How a verifier watches proposals: it replays each, and objects to those that do not follow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from fedledger.contracts.ledger.access import place_of
from fedledger.contracts.ledger.actor import WAITED, Action, Step
from fedledger.contracts.ledger.dispute_history import DisputeHistory
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.replay import Replay
from fedledger.ledger_tools.verifier.context import Context, Key, Things
from fedledger.ledger_tools.verifier.replaying import Unable
from fedledger.ledger_tools.verifier.replays import Replays
from fedledger.ledger_tools.verifier.striking import Striking
from fedledger.protocol.records.commitment_batch import Batch, SignedCommitment
from fedledger.protocol.records.signatures import commitment_message, recover
from fedledger.protocol.records.verdicts import Verdict

log = logging.getLogger(__name__)

TOO_MANY = 3
"""Rounds in a row that cannot be judged, after which a verifier serves their task no longer."""


def can_bond(context: Context, task: TaskHistory, current: RoundHistory, bond: int) -> bool:
    """Return whether the verifier can lay down a bond; told once if it cannot."""
    able = context.can_pay(bond)
    if not able and context.once(task.id, current.index, "bond", bond):
        where, address = f"task {task.id}, round {current.index}", context.access.address
        log.error("%s: %s lacks %d for the bond to object", where, address, bond)
    return able


class Objections:
    """The duty to replay what may still be challenged, and to object to what does not follow."""

    def __init__(self, context: Context, replays: Replays, striking: Striking) -> None:
        self.context = context
        self.replays = replays
        self.striking = striking
        self.access = context.access
        self._until: dict[Key, int] = {}
        self._unjudged: dict[int, int] = {}
        self._now: int | None = None

    def __call__(self, history: History) -> Step | None:
        """Tell what a replay found, or object."""
        self._now = None
        proposed: Things = {
            (task.id, current.index): partial(self._watch, task, current)
            for task in self.context.watched()
            for current in task.unfinal
            if current.proposal is not None
        }
        return self.context.first_due("proposal", proposed) if proposed else None

    def _watch(self, task: TaskHistory, current: RoundHistory) -> Step | None:
        """Tell what the replay of a proposal found, or object to it."""
        if not self._is_open(task, current):
            return None
        found = self.replays.replayed(task, current, task.params.challenge_window)
        if found is None:
            return None
        if self.context.once(self.context.key(task, current), "replayed"):
            self._reckon(task, found)
            return Step(Action.REPLAYED, task.id, current.index, detail=self._told_of(task, found))
        if isinstance(found, Replay) and found.divergence is not None and self.context.service.challenge:
            return self._object(task, current)
        return None

    def _reckon(self, task: TaskHistory, found: Replay | Unable) -> None:
        """Remember a task that cannot be judged here after all: its juries are better off without this verifier.

        One round may be too much because others kept the machine busy, so it takes several in a row.
        """
        if isinstance(found, Unable) and not found.missing:
            self._unjudged[task.id] = self._unjudged.get(task.id, 0) + 1
            if self._unjudged[task.id] >= TOO_MANY:
                self.context.unable.setdefault(task.id, found.reason)
        elif isinstance(found, Replay):
            self._unjudged.pop(task.id, None)
            if not found.checked:
                self.context.unable.setdefault(task.id, self.replays.unchecked(task))

    def _told_of(self, task: TaskHistory, found: Replay | Unable) -> str:
        if isinstance(found, Unable):
            return f"not at all: {found.reason}"
        if found.divergence is not None:
            return f"does not follow: {found.divergence}"
        if found.sealed:
            return f"follows, with {found.sealed} measurements as posted: the validation set is sealed"
        return "follows" if found.checked else f"follows, but {self.replays.unchecked(task)}"

    def _is_open(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether a proposal is in its challenge window."""
        key = self.context.key(task, current)
        if key not in self._until:
            proposed = self.access.ledger.round(task.id, current.index).proposed_at
            self._until[key] = proposed + task.params.challenge_window
        # One question a step, however many proposals there are.
        self._now = self.access.ledger.chain.now() if self._now is None else self._now
        return self._now < self._until[key]

    def _object(self, task: TaskHistory, current: RoundHistory) -> Step | None:
        """Object to a proposal in the way that the ledger decides soonest."""
        window, key = task.params.challenge_window, self.context.key(task, current)
        if not self.context.is_turn(current.index, window, key):
            return None
        disputes = [d for d in self.access.history.disputes if (d.task, d.round) == (task.id, current.index)]
        if task.batched:
            # What is wrong with a stranger's batch is no reason not to challenge.
            step = self.context.guard(("batch", *key), partial(self._object_to_batch, task, current, disputes))
            if step is not None:
                return None if step.is_idle else step
        if any(d.kind is DisputeKind.REPLAY for d in disputes):
            return None
        return self._challenge(task, current)

    def _object_to_batch(
        self, task: TaskHistory, current: RoundHistory, disputes: Sequence[DisputeHistory]
    ) -> Step | None:
        """Object to what a proposal says of commitments; a wait, if the answer to such an objection is awaited."""
        batch = self.replays.claimed(task, current)
        if not isinstance(batch, Batch):
            return WAITED if batch is None else None
        step = self._refute(task, current, batch)
        if step is not None:
            return step
        unshowable = self._unshowable(task, current, batch)
        demands = (d for d in disputes if d.kind is DisputeKind.COMMITMENT and d.status is DisputeStatus.OPEN)
        if any(demand.subject in unshowable for demand in demands):
            return WAITED
        return self._demand(task, current, unshowable)

    def _challenge(self, task: TaskHistory, current: RoundHistory) -> Step | None:
        """Have a jury replay the round."""
        if not self.access.ledger.has_judges(task.id, current.index):
            # Those who left may only stand in front of those who serve.
            step = self.striking(self.access.history, task)
            if step is not None:
                return step
            if self.context.once(task.id, current.index, "few"):
                log.error("task %d, round %d: too few verifiers serve it to challenge it", task.id, current.index)
            return None
        if not can_bond(self.context, task, current, task.params.bond):
            return None
        self.access.ledger.challenge_round(self.access.account, task.id, current.index)
        return Step(Action.CHALLENGED, task.id, current.index)

    def _refute(self, task: TaskHistory, current: RoundHistory, batch: Batch) -> Step | None:
        """Do what the ledger decides at once."""
        return self._refute_two(task, current, batch) or self._refute_missed(task, current, batch)

    def _refute_two(self, task: TaskHistory, current: RoundHistory, batch: Batch) -> Step | None:
        """Report, or refute a root that has, two commitments of one participant."""
        access, key, seen = self.access, self.context.key(task, current), dict[int, int]()
        for place, signed in enumerate(batch.commitments):
            other = seen.setdefault(signed.participant, place)
            first = batch.commitments[other]
            if first.commitment == signed.commitment:
                continue
            known = (task.id, current.index, signed.participant) in access.history.equivocated
            both = not known and all(self._is_signed(task, current, each) for each in (first, signed))
            if both and task.params.penalty and self.context.once(key, "reported", place):
                access.ledger.report_equivocation(access.account, task.id, current.index, first, signed)
                return Step(Action.REPORTED, task.id, current.index, detail=f"of participant {signed.participant}")
            if self.context.once(key, "duplicate", place):
                proofs = (first, batch.proof_at(other)), (signed, batch.proof_at(place))
                access.ledger.refute_duplicate(access.account, task.id, current.index, *proofs)
                detail = f"the root has two commitments of participant {signed.participant}"
                return Step(Action.REFUTED, task.id, current.index, detail=detail)
        return None

    def _refute_missed(self, task: TaskHistory, current: RoundHistory, batch: Batch) -> Step | None:
        """Refute a proposal that calls somebody missing whose commitment is in the root."""
        access, key, proposal = self.access, self.context.key(task, current), current.proposal
        for place, signed in enumerate(batch.commitments):
            missed = current.verdicts.get(signed.participant) is Verdict.MISSED
            if missed and proposal and self.context.once(key, "missed", place):
                proof = batch.proof_at(place)
                access.ledger.refute_missed(access.account, task.id, current.index, signed, proof, proposal)
                detail = f"participant {signed.participant} is called missing, and is in the root"
                return Step(Action.REFUTED, task.id, current.index, detail=detail)
        return None

    def _unshowable(self, task: TaskHistory, current: RoundHistory, batch: Batch) -> list[int]:
        """Return whose commitments may be demanded and cannot be shown."""
        listed = {signed.participant for signed in batch.commitments if self._is_signed(task, current, signed)}
        complete = current.count == len(current.selected)
        return [
            participant
            for participant in current.selected
            if participant not in listed
            and (
                complete
                or (current.verdicts.get(participant) is not Verdict.MISSED and participant not in current.commits)
            )
        ]

    def _demand(self, task: TaskHistory, current: RoundHistory, unshowable: list[int]) -> Step | None:
        access, proposal = self.access, current.proposal
        for participant in unshowable:
            if proposal is None or not can_bond(self.context, task, current, task.params.bond):
                return None
            if self.context.once(self.context.key(task, current), "demanded", participant):
                access.ledger.demand_commitment(access.account, task.id, current.index, participant, proposal)
                return Step(Action.DEMANDED, task.id, current.index, detail=f"of participant {participant}")
        return None

    def _is_signed(self, task: TaskHistory, current: RoundHistory, signed: SignedCommitment) -> bool:
        place = place_of(self.access.ledger, task.id)
        message = commitment_message(place, current.index, signed.participant, signed.commitment)
        return recover(message, signed.signature) in self.access.history.all_signers.get(signed.participant, ())
