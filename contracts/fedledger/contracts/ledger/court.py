"""Objections and disputes in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_account.signers.local import LocalAccount

from fedledger.contracts.chain.records import DEFAULT_GAS, Receipt
from fedledger.contracts.ledger.contract import LedgerContract
from fedledger.contracts.ledger.court_records import DisputeRecord, JuryRecord
from fedledger.contracts.ledger.records import (
    DisputeKind,
    DisputeStatus,
    Finding,
    Proposal,
)
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.records.commitment_batch import SignedCommitment

LAST_LEVEL = 2
"""The highest level of a jury that any deployment may have."""
POOL_PAGE = 500
"""Places of a pool that are asked for; a jury looks at 64 of them."""
SOME_GAS, STRIKE_GAS = 300_000, 50_000
"""Gas that a call takes besides, and gas for each place that is struck."""
DRAW_GAS, SEAT_GAS = 3_000_000, 50_000
"""Gas for the 64 places that a draw looks at, and for each seat that is drawn, or paid or fined."""
PAIR_GAS = 1_500
"""Gas for each pair of votes that is compared."""


def level_transcript(core: bytes, level: int) -> bytes:
    """Return the transcript that a juror of a level reveals for a replay's core transcript.

    It is hashed once for each level that there could be above: the ledger compares levels, and no later jury can take
    it over.
    """
    for _ in range(LAST_LEVEL - level):
        core = keccak(core)
    return core


class CourtMethods(LedgerContract):
    """What challengers, verifiers and jurors do about a proposal."""

    def enlist(self, account: LocalAccount) -> Receipt:
        """Make the account's participant a verifier."""
        return self._send(account, "enlist")

    def retire(self, account: LocalAccount) -> Receipt:
        """End the service of the account's participant in all tasks."""
        return self._send(account, "retire")

    def serve(self, account: LocalAccount, task: int) -> Receipt:
        """Say that the account's participant can judge a task: its juries are drawn from those that said so."""
        return self._send(account, "serve", task)

    def quit(self, account: LocalAccount, task: int) -> Receipt:
        """Take that back."""
        return self._send(account, "quit", task)

    def strike(self, account: LocalAccount, task: int, participants: Sequence[int]) -> Receipt:
        """Take verifiers that left, or lost their stake, out of a task's pool; who serves it is passed over."""
        gas = SOME_GAS + STRIKE_GAS * len(participants)
        return self._send(account, "strike", task, list(participants), gas=gas)

    def lapsed(self, task: int) -> list[int]:
        """Return who may be struck of the first ``POOL_PAGE`` places of a task's pool, front places first."""
        return [int(participant) for participant in self._view("lapsed", task, 0, POOL_PAGE)]

    def is_serving(self, participant_id: int) -> bool:
        """Return whether a participant is a verifier with enough stake."""
        return bool(self._view("isServing", participant_id))

    def may_enlist_from(self, participant_id: int) -> int:
        """Return from which block's time on a verifier that left may enlist again; 0 if it did not leave."""
        left = int(self._view("verifier", participant_id).left)
        return left + self._settings.dispute_period if left else 0

    def may_serve_from(self, participant_id: int) -> int:
        """Return from which block's time on a verifier may serve tasks."""
        return int(self._view("verifier", participant_id).since) + self._settings.verifier_age

    def verifier_count(self) -> int:
        """Return how many verifiers there are."""
        return int(self._view("verifierCount"))

    def pool(self, task: int) -> list[int]:
        """Return the verifiers in the first ``POOL_PAGE`` places of a task's pool; some may serve it no more."""
        return [int(participant) for participant in self._view("pool", task, 0, POOL_PAGE)]

    def has_judges(self, task: int, index: int = 0) -> bool:
        """Return whether enough verifiers serve a task for a jury to be called, and penalties to be taken.

        Parameters
        ----------
        task
            The task.
        index
            A round, for which only those count that have served the task since it was opened; 0: all that serve it now.
        """
        return bool(self._view("hasJudges", task, index))

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
            unable=d.unable,
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
            finding=Finding(j.finding),
            transcript=bytes(j.transcript),
            members=tuple(int(member) for member in j.members),
        )

    def held(self, task: int, place: int) -> int:
        """Return what of a seat's deposit is held for disputes."""
        return int(self._view("heldOf", task, place).amount)

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
        return self._send(account, "drawJury", dispute, gas=DRAW_GAS + SEAT_GAS * self._seats(dispute)[-1])

    def vote_of(self, dispute: int, level: int, juror: int, finding: Finding, transcript: bytes, salt: bytes) -> bytes:
        """Return what a juror commits to."""
        return bytes(self._view("voteOf", dispute, level, juror, finding, transcript, salt))

    def commit_vote(self, account: LocalAccount, dispute: int, commitment: bytes) -> Receipt:
        """Commit the account's participant, a juror, to what it found."""
        return self._send(account, "commitVote", dispute, commitment)

    def reveal_vote(
        self, account: LocalAccount, dispute: int, finding: Finding, transcript: bytes, salt: bytes
    ) -> Receipt:
        """Reveal what the account's participant committed to."""
        return self._send(account, "revealVote", dispute, finding, transcript, salt)

    def decide(self, account: LocalAccount, dispute: int) -> Receipt:
        """Count the votes of a jury that is done."""
        return self._send(account, "decide", dispute, gas=DEFAULT_GAS + PAIR_GAS * self._seats(dispute)[-1] ** 2)

    def appeal(self, account: LocalAccount, dispute: int, bond: int) -> Receipt:
        """Appeal against what a jury found; ``bond`` is twice that of the level before."""
        return self._send(account, "appeal", dispute, value=self._lacking(account, bond))

    def close_dispute(self, account: LocalAccount, dispute: int) -> Receipt:
        """Close a dispute whose last deadline is over."""
        gas = DEFAULT_GAS + SEAT_GAS * sum(self._seats(dispute))
        return self._send(account, "closeDispute", dispute, gas=gas)

    def _seats(self, dispute: int) -> tuple[int, ...]:
        """Return the seats of a dispute's juries up to its level."""
        return self._settings.seats[: self.dispute(dispute).level + 1]

    def _bond(self, task: int) -> int:
        return int(self._view("task", task).params.bond)


def _claim(signed: SignedCommitment, proof: Sequence[bytes]) -> tuple[Any, ...]:
    return signed.commitment, signed.signature, list(proof)
