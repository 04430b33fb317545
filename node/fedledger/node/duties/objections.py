"""What a participant says against proposals that treat it wrongly, as long as they are not final."""

from __future__ import annotations

import logging
import time
from functools import partial

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.guard import Guard
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.node.duties.batched_rounds import BatchedRounds
from fedledger.protocol.records.verdicts import Verdict

log = logging.getLogger(__name__)

RACES = frozenset({"AlreadyRevealed", "RevealsAreClosed", "RoundNotOpen", "NotChallengeable", "NotRefuted"})
"""Refusals that mean that somebody else objected before, or that it is too late."""
PAUSE, REST = 5.0, 3.0
"""Least seconds between two tries of an objection, and how many times as long as the last try they are."""

Key = tuple[int, bytes, int]
"""A proposal: round, transaction, and how often the history had been folded again."""


class Objections:
    """The duty to object to proposals of batched rounds that call the participant late or missing.

    What shows that they are wrong may not be there at once: who makes a false proposal may hold it back for a while. So
    it is asked for again as long as the proposal is not final.
    """

    def __init__(self, access: TaskAccess, rounds: BatchedRounds) -> None:
        self.access = access
        self.rounds = rounds
        self._guard = Guard(RACES)
        self._next: dict[Key, float] = {}
        self._done: set[Key] = set()

    def __call__(self, seen: Situation) -> Step | None:
        """Object to what proposals that wait for their finality say of this participant.

        Where that cannot be done, as nobody gives the proof or the chain refuses, it is tried again
        after a pause.
        """
        participant, task = self.access.participant, seen.task
        if participant is None or not task.batched:
            return None
        for current in task.unfinal:
            proposed = b"" if current.proposed_at is None else current.proposed_at.transaction
            key = current.index, proposed, self.access.history.folds
            if key in self._done or time.monotonic() < self._next.get(key, 0.0):
                continue
            # What keeps one objection back is no reason to leave out those to other rounds.
            step = self._guard(key, partial(self._object, task, current, participant, key), f"round {current.index}")
            if step is not None:
                return step
        return None

    def _object(self, task: TaskHistory, current: RoundHistory, participant: int, key: Key) -> Step | None:
        """Object to a proposal, if there is anything to object to and it can be shown by now."""
        began, step, verdict = time.monotonic(), None, current.verdicts.get(participant)
        is_first = key not in self._next
        try:
            if verdict is Verdict.LATE and participant not in current.excuses:
                if is_first:
                    log.warning("round %d: called late, so revealing on chain", current.index)
                step = self.rounds.reveal(task, current, participant)
            elif verdict is Verdict.MISSED and self._has_signed(current) and task.params.challenge_window:
                step = self._refute(task, current, participant)
            elif verdict is not None:
                self._done.add(key)
        finally:
            # However long others let it wait, most of the time is for all else that there is to do.
            self._next[key] = time.monotonic() + max(PAUSE, REST * (time.monotonic() - began))
        if step is not None:
            self._done.add(key)
        return step

    def _has_signed(self, current: RoundHistory) -> bool:
        """Return whether this participant signed a commitment, also before the program was started again."""
        return current.index in self.rounds.signed or self.rounds.updates.journal.has_signed(current.index)

    def _refute(self, task: TaskHistory, current: RoundHistory, participant: int) -> Step | None:
        """Refute a proposal that says this participant never committed, if it cannot be what the root says."""
        access, proposal = self.access, current.proposal
        if proposal is None:
            return None
        proof = self.rounds.proof(task, current, participant)
        if proof is not None:
            log.warning("round %d: called missing, so showing that the commitment is in the root", current.index)
            signed = self.rounds.signed_commitment(task, current, participant)
            access.ledger.refute_missed(access.account, access.task, current.index, signed, proof, proposal)
            return Step(Action.OBJECTED, access.task, current.index)
        if current.count == len(current.selected):
            log.warning("round %d: left out of a root that is said to be complete, so demanding to see", current.index)
            access.ledger.demand_commitment(access.account, access.task, current.index, participant, proposal)
            return Step(Action.OBJECTED, access.task, current.index)
        return None
