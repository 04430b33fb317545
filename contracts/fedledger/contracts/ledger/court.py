"""Objections and disputes in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_account.signers.local import LocalAccount

from fedledger.contracts.chain.records import Receipt
from fedledger.contracts.ledger.contract import LedgerContract
from fedledger.contracts.ledger.records import (
    DisputeKind,
    DisputeRecord,
    DisputeStatus,
    JuryRecord,
    Proposal,
)
from fedledger.protocol.records.commitment_batch import SignedCommitment

MAX_LEVEL = 2
"""Appeals after a dispute's first jury."""
LEAST_POOL = 3
"""Verifiers without which nobody can challenge a proposal."""


class CourtMethods(LedgerContract):
    """What challengers, verifiers and jurors do about a proposal."""

    def enlist(self, account: LocalAccount) -> Receipt:
        """Put the account's participant among the verifiers from which juries are drawn."""
        return self._send(account, "enlist")

    def retire(self, account: LocalAccount) -> Receipt:
        """Take the account's participant out of them."""
        return self._send(account, "retire")

    def is_serving(self, participant_id: int) -> bool:
        """Return whether a participant may be drawn for a jury."""
        return bool(self._view("isServing", participant_id))

    def verifier_count(self) -> int:
        """Return how many verifiers ever enlisted."""
        return int(self._view("verifierCount"))

    def dispute(self, dispute: int) -> DisputeRecord:
        """Return a dispute's record."""
        d = self._view("disputeRecord", dispute)
        return DisputeRecord(
            id=dispute,
            task=d.task,
            round=d.round,
            kind=DisputeKind(d.kind),
            status=DisputeStatus(d.status),
            subject=d.subject,
            level=d.level,
            deadline=d.deadline,
            challenger=d.challenger,
            bond=d.bond,
        )

    def jury(self, dispute: int, level: int) -> JuryRecord:
        """Return the jury of a dispute's level."""
        j = self._view("juryOf", dispute, level)
        return JuryRecord(
            draw_block=j.drawBlock,
            draw_until=j.drawUntil,
            commits_until=j.commitsUntil,
            reveals_until=j.revealsUntil,
            pool=j.pool,
            committed=j.committed,
            revealed=j.revealed,
            decided=j.decided,
            valid=j.valid,
            outcome=bytes(j.outcome),
            members=tuple(int(member) for member in j.members),
        )

    def challenge_round(self, account: LocalAccount, task: int, index: int) -> Receipt:
        """Challenge a proposal, under the task's bond; juries will replay the round."""
        value = self._lacking(account, self._bond(task))
        return self._send(account, "challengeRound", task, index, value=value)

    def demand_commitment(
        self, account: LocalAccount, task: int, index: int, participant_id: int, proposal: Proposal
    ) -> Receipt:
        """Demand, under the task's bond, that the commitment of a participant in a batched round is shown."""
        value = self._lacking(account, self._bond(task))
        posted = proposal.as_arguments()
        return self._send(account, "demandCommitment", task, index, participant_id, posted, value=value)

    def show_commitment(
        self, account: LocalAccount, dispute: int, signed: SignedCommitment, proof: Sequence[bytes]
    ) -> Receipt:
        """Answer such a demand."""
        return self._send(account, "showCommitment", dispute, _claim(signed, proof))

    def refute_missed(
        self,
        account: LocalAccount,
        task: int,
        index: int,
        signed: SignedCommitment,
        proof: Sequence[bytes],
        proposal: Proposal,
    ) -> Receipt:
        """Refute a proposal that says a participant never committed, by the way from its commitment to the root."""
        claim, posted = _claim(signed, proof), proposal.as_arguments()
        return self._send(account, "refuteMissed", task, index, signed.participant, claim, posted)

    def refute_duplicate(
        self,
        account: LocalAccount,
        task: int,
        index: int,
        first: tuple[SignedCommitment, Sequence[bytes]],
        second: tuple[SignedCommitment, Sequence[bytes]],
    ) -> Receipt:
        """Refute a round whose root has two commitments of one participant."""
        participant_id = first[0].participant
        return self._send(account, "refuteDuplicate", task, index, participant_id, _claim(*first), _claim(*second))

    def report_equivocation(
        self, account: LocalAccount, task: int, index: int, first: SignedCommitment, second: SignedCommitment
    ) -> Receipt:
        """Punish a participant that signed two commitments for one round."""
        claims = _claim(first, ()), _claim(second, ())
        return self._send(account, "reportEquivocation", task, index, first.participant, *claims)

    def draw_jury(self, account: LocalAccount, dispute: int) -> Receipt:
        """Draw the jury that was called."""
        return self._send(account, "drawJury", dispute, gas=3_000_000)

    def vote_of(self, dispute: int, level: int, juror: int, valid: bool, transcript: bytes, salt: bytes) -> bytes:
        """Return what a juror commits to."""
        return bytes(self._view("voteOf", dispute, level, juror, valid, transcript, salt))

    def commit_vote(self, account: LocalAccount, dispute: int, commitment: bytes) -> Receipt:
        """Commit the account's participant, a juror, to what it found."""
        return self._send(account, "commitVote", dispute, commitment)

    def reveal_vote(self, account: LocalAccount, dispute: int, valid: bool, transcript: bytes, salt: bytes) -> Receipt:
        """Reveal what the account's participant committed to."""
        return self._send(account, "revealVote", dispute, valid, transcript, salt)

    def decide(self, account: LocalAccount, dispute: int) -> Receipt:
        """Count the votes of a jury that is done."""
        return self._send(account, "decide", dispute)

    def appeal(self, account: LocalAccount, dispute: int, bond: int) -> Receipt:
        """Appeal against what a jury found; ``bond`` is twice that of the level before."""
        return self._send(account, "appeal", dispute, value=self._lacking(account, bond))

    def close_dispute(self, account: LocalAccount, dispute: int) -> Receipt:
        """Close a dispute whose last deadline is over."""
        return self._send(account, "closeDispute", dispute, gas=6_000_000)

    def _bond(self, task: int) -> int:
        return int(self._view("task", task).params.bond)


def _claim(signed: SignedCommitment, proof: Sequence[bytes]) -> tuple[Any, ...]:
    return signed.commitment, signed.signature, list(proof)
