"""How an aggregator defends what it posted, and has equivocation punished."""

from __future__ import annotations

import logging
from functools import partial

from fedledger.aggregator.duties.commitments import Commitments
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation, Step
from fedledger.contracts.ledger.dispute_history import DisputeHistory
from fedledger.contracts.ledger.guard import Guard
from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.commitment_batch import SignedCommitment
from fedledger.protocol.records.signatures import commitment_message, recover

log = logging.getLogger(__name__)

RACES = frozenset({"DisputeIsClosed"})
"""Refusals that mean that somebody else showed the commitment before."""


class Defence:
    """The duties to show commitments that are demanded, and to report who signed two of them."""

    def __init__(self, access: TaskAccess, commitments: Commitments) -> None:
        self.access = access
        self.commitments = commitments
        self._guard = Guard(RACES)
        self._unanswered: set[int] = set()

    def answer(self, seen: Situation) -> Step | None:
        """Show a commitment that somebody demands to see, and that was claimed by this aggregator."""
        for dispute in self.access.history.disputes:
            demanded = dispute.kind is DisputeKind.COMMITMENT and dispute.status is DisputeStatus.OPEN
            if not demanded or dispute.task != self.access.task or dispute.id in self._unanswered:
                continue
            current = seen.task.rounds[dispute.round]
            if current.voided or current.proposer != self.access.address:
                continue
            # What cannot be shown, or not yet, is no reason not to answer other demands.
            step = self._guard(dispute.id, partial(self._show, current, dispute), f"demand {dispute.id}")
            if step is not None:
                return step
        return None

    def report(self, seen: Situation) -> Step | None:
        """Have a participant punished that left two commitments for one round."""
        access, mailbox = self.access, self.commitments.mailbox
        if mailbox is None or not seen.task.params.penalty:
            return None
        for current in seen.task.unfinal:
            for first, second in mailbox.equivocations(current.index):
                if (access.task, current.index, first.participant) not in access.history.equivocated:
                    access.ledger.report_equivocation(access.account, access.task, current.index, first, second)
                    return Step(Action.REPORTED, access.task, current.index)
        return None

    def _show(self, current: RoundHistory, dispute: DisputeHistory) -> Step | None:
        try:
            batch = self.commitments.batch(current)
        except RoundError as error:
            log.error("round %d: %s", current.index, error)
            self._unanswered.add(dispute.id)
            return None
        signed, proof = batch.by_participant.get(dispute.subject), batch.proof(dispute.subject)
        if signed is None or proof is None or not self._is_signed(current, signed):
            log.error("round %d: participant %d has no commitment to show", current.index, dispute.subject)
            self._unanswered.add(dispute.id)
            return None
        self.access.ledger.show_commitment(self.access.account, dispute.id, signed, proof)
        return Step(Action.ANSWERED, self.access.task, current.index, dispute.id)

    def _is_signed(self, current: RoundHistory, signed: SignedCommitment) -> bool:
        message = commitment_message(self.access.place, current.index, signed.participant, signed.commitment)
        return recover(message, signed.signature) in self.access.history.all_signers[signed.participant]
