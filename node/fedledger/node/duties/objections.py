"""What a participant says against proposals that treat it wrongly, as long as they are not final."""

from __future__ import annotations

import logging
import math

from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.contracts.ledger.waits import Patience
from fedledger.node.duties.batched_rounds import BatchedRounds
from fedledger.protocol.records.verdicts import Verdict

log = logging.getLogger(__name__)


class Objections:
    """The duty to object to proposals of batched rounds that call the participant late or missing."""

    def __init__(self, access: TaskAccess, rounds: BatchedRounds) -> None:
        self.access = access
        self.rounds = rounds
        self._done: set[int] = set()
        self._tried: dict[int, Patience] = {}

    def __call__(self, seen: Situation) -> Step | None:
        """Object to what proposals that wait for their finality say of this participant.

        Where that cannot be done, as nobody gives the proof or the chain refuses, it is tried again, ever less often.
        """
        participant, task = self.access.participant, seen.task
        if participant is None or not task.batched:
            return None
        for current in task.unfinal:
            verdict = current.verdicts.get(participant)
            patience = self._tried.setdefault(current.index, Patience())
            if verdict is None or current.index in self._done or not patience.over():
                continue
            patience.left(math.inf)
            if verdict is Verdict.LATE and participant not in current.excuses:
                log.warning("round %d: called late, so revealing on chain", current.index)
                step = self.rounds.reveal(task, current, participant)
            elif verdict is Verdict.MISSED and current.index in self.rounds.signed:
                step = self._refute(task, current, participant)
            else:
                continue
            if step is not None:
                self._done.add(current.index)
                return step
        return None

    def _refute(self, task: TaskHistory, current: RoundHistory, participant: int) -> Step | None:
        """Refute a proposal that says this participant never committed, if it cannot be what the root says."""
        access, proposal = self.access, current.proposal
        proof = self.rounds.proof(task, current, participant)
        if proposal is None or not task.params.challenge_window:
            return None
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
