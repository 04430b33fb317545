"""What the ledger has to do about disputes, as plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus, RoundStatus
from fedledger.protocol.encoding.merkle import verify
from fedledger.protocol.records.commitment_batch import EMPTY_ROOT, leaf
from fedledger.protocol.records.verdicts import Verdict
from support.evm import block_hash
from support.ledger_model import EQUIVOCATION, LEFT, MINORITY, SILENCE, Rounds
from support.ledger_records import ZERO, Claim, Dispute, Fault, Jury, Posted, Refused, Round, Task, Vote, refuse

LEAST_POOL = 3
SIZES = (3, 7, 15)
LOOKS = 64
FOREVER = 2**256 - 1


class Model(Rounds):
    """The whole ledger."""

    # Verifiers.

    def enlist(self, sender: str, value: int) -> None:
        i = self.of_sender(sender)
        stake, least = self.participants[i].stake, self.terms.min_verifier_stake
        refuse((self.is_listed(i), "AlreadyServing", i), (stake < least, "StakeTooSmall", stake, least))
        if i not in self.verifiers:
            self.verifiers.append(i)
        self.placed[i] = self.block
        self.emit("VerifierEnlisted", i)

    def retire(self, sender: str, value: int) -> None:
        i = self.of_sender(sender)
        refuse((not self.is_listed(i), "NotServing", i))
        self.strike(i)

    def is_listed(self, i: int) -> bool:
        return i in self.verifiers and self.placed[i] != LEFT

    def is_serving(self, i: int) -> bool:
        return self.is_listed(i) and self.participants[i].stake >= self.terms.min_verifier_stake

    # What the ledger sees for itself.

    def report_equivocation(self, sender: str, value: int, task: int, number: int, i: int, a: Claim, b: Claim) -> None:
        t = self.posted(task)
        offence = keccak(encode(["uint8", "uint256", "uint32", "uint32"], [EQUIVOCATION, task, number, i]))
        refuse(
            (a.commitment == b.commitment, "NotRefuted"),
            *self.unmade(task, number, i, a),
            *self.unmade(task, number, i, b),
            ((task, number, i) in self.punished, "AlreadyPunished", offence),
        )
        self.punished.add((task, number, i))
        taken = self.slash(i, t.params.penalty, task, number, EQUIVOCATION)
        self.emit("Equivocated", task, number, i, sender)
        self.credit(sender, taken // 2)
        self.burn(taken - taken // 2)

    def refute_missed(
        self, sender: str, value: int, task: int, number: int, i: int, claim: Claim, posted: Posted
    ) -> None:
        t, r = self.challengeable(task, number)
        assert r.outcome is not None
        refuse((posted.outcome.hash != r.outcome.hash, "WrongProposal", r.outcome.hash, posted.outcome.hash))
        slandered = listed(t, r, i, claim) and r.outcome.verdict(i) is Verdict.MISSED
        refuse((not slandered, "NotRefuted"))
        self.emit("ProposalRefuted", task, number, i, sender)
        self.overturn(t, number, r.seat, sender)

    def refute_duplicate(self, sender: str, value: int, task: int, number: int, i: int, a: Claim, b: Claim) -> None:
        t, r = self.challengeable(task, number)
        twice = listed(t, r, i, a) and listed(t, r, i, b) and a.commitment != b.commitment
        refuse((not twice, "NotRefuted"))
        self.emit("ProposalRefuted", task, number, i, sender)
        self.overturn(t, number, r.seat, sender)

    # Demands.

    def demand_commitment(self, sender: str, value: int, task: int, number: int, i: int, posted: Posted) -> None:
        t, r = self.challengeable(task, number)
        assert r.outcome is not None
        given, verdict = posted.outcome.hash, r.outcome.verdict(i)
        unclaimed = verdict is Verdict.MISSED or i in r.commitments
        refuse(
            (not t.params.batched, "NotBatched", task),
            (i not in r.selected, "NotSelected", i),
            (not r.complete and given != r.outcome.hash, "WrongProposal", r.outcome.hash, given),
            (not r.complete and unclaimed, "NotRefuted"),
            self.lacks(sender, value, t.params.bond),
        )
        d = self.open_dispute(sender, value, task, number, i, DisputeKind.COMMITMENT)
        d.deadline = self.now + self.terms.dispute_period

    def show_commitment(self, sender: str, value: int, dispute: int, claim: Claim) -> None:
        d = self.ongoing(dispute, DisputeKind.COMMITMENT)
        t = self.tasks[d.task - 1]
        refuse(
            *self.unsigned(d.task, d.number, d.subject, claim),
            (not listed(t, t.rounds[d.number - 1], d.subject, claim), "NotRefuted"),
        )
        self.emit("CommitmentShown", dispute, claim.commitment, claim.signature)
        self.credit(t.seats[d.accused].holder, d.bond // 2)
        self.burn(d.bond - d.bond // 2)
        self.close(dispute, DisputeStatus.UPHELD)

    # Replays.

    def challenge_round(self, sender: str, value: int, task: int, number: int) -> None:
        t, r = self.challengeable(task, number)
        pool = len(self.verifiers)
        refuse(
            (r.challenged, "AlreadyChallenged", task, number),
            (pool < LEAST_POOL, "TooFewVerifiers", pool, LEAST_POOL),
            self.lacks(sender, value, t.params.bond),
        )
        r.challenged = True
        d = self.open_dispute(sender, value, task, number, 0, DisputeKind.REPLAY)
        self.call(len(self.disputes) - 1, d)

    def draw_jury(self, sender: str, value: int, dispute: int) -> None:
        d = self.ongoing(dispute, DisputeKind.REPLAY)
        jury = d.jury
        early = self.block <= jury.draw_block or self.now >= jury.draw_until
        refuse((jury.commits_until, "NotInTime", 0, jury.draw_until))
        refuse((early, "NotInTime", jury.draw_block + 1, jury.draw_until))
        seed = block_hash(jury.draw_block, self.block)
        if seed == ZERO:
            jury.draw_block, jury.pool = self.block + 1, len(self.verifiers)
            self.emit("JuryCalled", dispute, d.level, jury.draw_block)
            return
        jury.commits_until = self.now + self.terms.dispute_period
        jury.reveals_until = jury.commits_until + self.terms.dispute_period
        jury.members = self.drawn(d, keccak(encode(["bytes32", "uint256", "uint8"], [seed, dispute, d.level])))
        self.emit("JuryDrawn", dispute, d.level, tuple(jury.members))

    def drawn(self, d: Dispute, seed: bytes) -> list[int]:
        """Shuffle the places of the pool by the seed, and take from the front who may judge.

        Who has come to its place since the call may not, nor who has a part in the dispute. Who has left or has too
        small a stake is struck off the list.
        """
        places = list(range(d.jury.pool))
        parties = {d.challenger, self.tasks[d.task - 1].seats[d.accused].holder}
        members: list[int] = []
        poor = []
        for k in range(min(LOOKS, len(places))):
            if len(members) == SIZES[d.level]:
                break
            draw = int.from_bytes(keccak(encode(["bytes32", "uint256"], [seed, k])), "big")
            other = k + draw % (len(places) - k)
            places[k], places[other] = places[other], places[k]
            if places[k] >= len(self.verifiers):
                continue
            i = self.verifiers[places[k]]
            p = self.participants[i]
            if not self.is_serving(i):
                poor.append(i)
            elif self.placed[i] < d.jury.draw_block and not parties & {p.owner, p.signer}:
                members.append(i)
        for i in poor:
            self.strike(i)
        return members

    def commit_vote(self, sender: str, value: int, dispute: int, digest: bytes) -> None:
        d = self.ongoing(dispute, DisputeKind.REPLAY)
        jury = d.jury
        refuse((self.now >= jury.commits_until, "NotInTime", 0, jury.commits_until))
        i = self.juror(dispute, jury, sender)
        refuse((digest == ZERO, "EmptyCommitment"), (i in jury.votes, "AlreadyVoted", i))
        jury.votes[i] = Vote(digest)
        self.emit("VoteCommitted", dispute, d.level, i, digest)

    def reveal_vote(self, sender: str, value: int, dispute: int, valid: bool, transcript: bytes, salt: bytes) -> None:
        d = self.ongoing(dispute, DisputeKind.REPLAY)
        jury = d.jury
        begun = len(jury.votes) == len(jury.members) or self.now >= jury.commits_until
        in_time = begun and self.now < jury.reveals_until
        refuse((not in_time, "NotInTime", jury.commits_until, jury.reveals_until))
        i = self.juror(dispute, jury, sender)
        digest = jury.votes[i].commitment if i in jury.votes else ZERO
        found = self.vote(dispute, d.level, i, valid, transcript, salt)
        refuse((digest != found, "WrongVote", digest, found))
        refuse((jury.votes[i].finding is not None, "AlreadyVoted", i))
        jury.votes[i].finding = valid, transcript
        self.emit("VoteRevealed", dispute, d.level, i, valid, transcript, salt)

    def decide(self, sender: str, value: int, dispute: int) -> None:
        d = self.ongoing(dispute, DisputeKind.REPLAY)
        jury = d.jury
        until = jury.reveals_until or jury.draw_until
        refuse((jury.decided, "NotInTime", 0, jury.reveals_until))
        refuse((not jury.complete and self.now < until, "NotInTime", until, FOREVER))
        jury.decided = True
        votes = Counter(jury.found.values())
        jury.finding = next((found for found, count in votes.items() if 2 * count > len(jury.members)), None)
        valid = jury.finding is not None and jury.finding[0]
        self.emit("JuryDecided", dispute, d.level, valid, outcome_hash(jury.finding))
        appealable = self.can_go_higher(d)
        if appealable and jury.finding is None:
            self.call(dispute, d)
        else:
            d.deadline = self.now + (self.terms.dispute_period if appealable else 0)

    def appeal(self, sender: str, value: int, dispute: int) -> None:
        d = self.ongoing(dispute, DisputeKind.REPLAY)
        bond = d.bond * 2 ** (d.level + 1)
        refuse((not d.jury.decided, "NotInTime", 0, 0))
        refuse(
            (self.now >= d.deadline, "NotInTime", 0, d.deadline),
            (not self.can_go_higher(d), "NoHigherJury"),
            self.lacks(sender, value, bond),
        )
        self.take(sender, value, bond)
        d.jury.appellant, d.jury.appeal_bond = sender, bond
        self.emit("Appealed", dispute, d.level, sender, bond)
        self.call(dispute, d)

    def close_dispute(self, sender: str, value: int, dispute: int) -> None:
        d = self.opened(dispute)
        t = self.tasks[d.task - 1]
        if t.rounds[d.number - 1].status is RoundStatus.VOIDED:
            self.close(dispute, DisputeStatus.MOOT)
            self.credit(d.challenger, d.bond)
            for jury in d.juries:
                self.credit(jury.appellant, jury.appeal_bond)
            return
        undecided = d.kind is DisputeKind.REPLAY and not d.jury.decided
        refuse((self.now < d.deadline or undecided, "NotInTime", d.deadline, FOREVER))
        if d.kind is DisputeKind.COMMITMENT:
            self.close(dispute, DisputeStatus.OVERTURNED)
            self.credit(d.challenger, d.bond)
            self.overturn(t, d.number, d.accused, d.challenger)
        elif d.jury.finding is None:
            self.close_undecided(t, dispute, d)
        else:
            self.close_decided(t, dispute, d, *d.jury.finding)

    def close_undecided(self, t: Task, dispute: int, d: Dispute) -> None:
        """Nobody knows who is right: appeals are returned, the challenger pays a quarter, the round is made again."""
        self.close(dispute, DisputeStatus.UNDECIDED)
        self.credit(d.challenger, d.bond - d.bond // 4)
        self.burn(d.bond // 4)
        for jury in d.juries:
            self.credit(jury.appellant, jury.appeal_bond)
        self.fine(d, None)
        self.void(t, d.number, len(t.rounds))

    def close_decided(self, t: Task, dispute: int, d: Dispute, valid: bool, transcript: bytes) -> None:
        """Of what the losers had at stake the winner gets half, the jurors who were right a quarter."""
        proposer = t.seats[d.accused].holder
        pot = 0
        for jury in d.juries[:-1]:
            # Who appealed held the opposite of what this jury had found.
            if jury.finding is not None and jury.finding[0] == valid:
                pot += jury.appeal_bond
            else:
                self.credit(jury.appellant, jury.appeal_bond)
        if valid:
            self.close(dispute, DisputeStatus.UPHELD)
            pot += d.bond
        else:
            self.close(dispute, DisputeStatus.OVERTURNED)
            self.credit(d.challenger, d.bond)
            pot += self.charge(t, d.accused)
        winner = proposer if valid else d.challenger
        self.credit(winner, pot // 2)
        right = self.fine(d, (valid, transcript))
        each = pot // 4 // len(right)
        for i in right:
            self.credit(self.participants[i].owner, each)
        self.burn(pot - pot // 2 - each * len(right))
        if not valid:
            self.void(t, d.number, len(t.rounds))

    def fine(self, d: Dispute, finding: tuple[bool, bytes] | None) -> list[int]:
        """Fine jurors who were silent or found something else; return those who were right, once for each jury."""
        right = []
        for jury in d.juries:
            for i in jury.members:
                found = jury.found.get(i)
                if found is not None and finding in (None, found):
                    right.append(i)
                else:
                    offence = SILENCE if found is None else MINORITY
                    self.burn(self.slash(i, self.terms.juror_penalty, d.task, d.number, offence))
        return right

    # What the transactions share.

    def vote(self, dispute: int, level: int, juror: int, valid: bool, transcript: bytes, salt: bytes) -> bytes:
        """Return what a juror commits to."""
        kinds = ["uint256", "address", "uint256", "uint8", "uint32", "bool", "bytes32", "bytes32"]
        return keccak(encode(kinds, [self.chain_id, self.address, dispute, level, juror, valid, transcript, salt]))

    def can_go_higher(self, d: Dispute) -> bool:
        """Whether there is a next level, and anybody who did not sit on this one."""
        return d.level + 1 < len(SIZES) and d.jury.pool > len(d.jury.members)

    def call(self, dispute: int, d: Dispute) -> None:
        d.juries.append(Jury(self.block, self.now + self.terms.dispute_period, len(self.verifiers)))
        self.emit("JuryCalled", dispute, d.level, self.block)

    def juror(self, dispute: int, jury: Jury, sender: str) -> int:
        i = self.of_sender(sender)
        refuse((i not in jury.members, "NotJuror", dispute, i))
        return i

    def open_dispute(self, sender: str, value: int, task: int, number: int, subject: int, kind: DisputeKind) -> Dispute:
        t = self.tasks[task - 1]
        r, bond = t.rounds[number - 1], t.params.bond
        self.take(sender, value, bond)
        r.disputes += 1
        self.disputes.append(Dispute(task, number, subject, kind, r.seat, sender, bond))
        self.emit("Challenged", task, number, len(self.disputes) - 1, kind, subject, sender, bond)
        return self.disputes[-1]

    def close(self, dispute: int, status: DisputeStatus) -> None:
        d = self.disputes[dispute]
        d.status = status
        t = self.tasks[d.task - 1]
        t.rounds[d.number - 1].disputes -= 1
        t.last_final = self.now
        self.emit("DisputeClosed", dispute, status)

    def overturn(self, t: Task, number: int, place: int, winner: str) -> None:
        """Take the deposit of a seat, half of it for the winner, and void a round with all that built on it."""
        taken = self.charge(t, place)
        self.credit(winner, taken // 2)
        self.burn(taken - taken // 2)
        self.void(t, number, len(t.rounds))

    def challengeable(self, task: int, number: int) -> tuple[Task, Round]:
        t = self.posted(task)
        r = t.rounds[number - 1] if 1 <= number <= len(t.rounds) else None
        proposed = r is not None and r.status is RoundStatus.PROPOSED
        if r is None or not proposed or self.now >= r.proposed + t.params.challenge_window:
            raise Refused({("NotChallengeable", (task, number))})
        return t, r

    def opened(self, dispute: int) -> Dispute:
        refuse((dispute >= len(self.disputes), "UnknownDispute", dispute))
        d = self.disputes[dispute]
        refuse((d.status is not DisputeStatus.OPEN, "DisputeIsClosed", dispute))
        return d

    def ongoing(self, dispute: int, kind: DisputeKind) -> Dispute:
        d = self.opened(dispute)
        r = self.tasks[d.task - 1].rounds[d.number - 1]
        refuse(
            (d.kind is not kind, "WrongKind", dispute),
            (r.status is not RoundStatus.PROPOSED, "NotProposed", d.task, d.number),
        )
        return d

    def unmade(self, task: int, number: int, i: int, claim: Claim) -> Iterator[Fault]:
        """Yield the fault of a claim that the participant has neither signed nor sent to a batched round."""
        if claim.signature:
            yield from self.unsigned(task, number, i, claim)
            return
        t = self.posted(task)
        r = t.rounds[number - 1] if 1 <= number <= len(t.rounds) else None
        sent = r.commitments[i][1] if r and t.params.batched and i in r.commitments else None
        yield sent != claim.commitment, "NotCommitted", i

    def unsigned(self, task: int, number: int, i: int, claim: Claim) -> Iterator[Fault]:
        """Yield the fault of a claim that no signer of the participant has signed."""
        signer = claim.signer(self.chain_id, self.address, task, number, i)
        assert signer is not None
        yield self.signers.get(signer) != i, "WrongSignature", signer


def listed(t: Task, r: Round, i: int, claim: Claim) -> bool:
    """Whether a participant's commitment is in a batched round's root."""
    rooted = t.params.batched and r.root != EMPTY_ROOT
    return rooted and verify(r.root, leaf(i, claim.commitment), claim.proof)


@lru_cache(maxsize=4096)
def outcome_hash(finding: tuple[bool, bytes] | None) -> bytes:
    return ZERO if finding is None else keccak(encode(["bool", "bytes32"], finding))
