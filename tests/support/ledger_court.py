"""What the ledger has to do about disputes, as plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus, Finding, RoundStatus
from fedledger.protocol.encoding.merkle import verify
from fedledger.protocol.records.commitment_batch import EMPTY_ROOT, leaf
from fedledger.protocol.records.verdicts import Verdict
from support.evm import block_hash
from support.ledger_model import CANNOT_JUDGE, EQUIVOCATION, LOOKS, MINORITY, SILENCE
from support.ledger_records import (
    ZERO,
    Claim,
    Dispute,
    Fault,
    Jury,
    Place,
    Posted,
    Refused,
    Round,
    Task,
    Verifier,
    Vote,
    invalid,
    refuse,
    seats_of_jury,
)
from support.ledger_scores import Scores

LEAST_VOTES = 2
MOST_UNABLE = 2
PROVER_SHARE = 8
FOREVER = 2**256 - 1
JUDGED = Finding.VALID, Finding.INVALID


class Model(Scores):
    """The whole ledger."""

    # Verifiers.

    def enlist(self, sender: str, value: int) -> None:
        i = self.of_sender(sender)
        stake, least = self.participants[i].stake, self.terms.min_verifier_stake
        known = self.verifiers.get(i)
        again = known.left + self.terms.dispute_period if known and known.left_block else 0
        refuse(
            (self.is_listed(i), "AlreadyServing", i),
            (self.now < again, "TooEarlyToEnlist", again),
            (stake < least, "StakeTooSmall", stake, least),
        )
        self.verifiers[i] = Verifier(self.now, self.block)
        self.emit("VerifierEnlisted", i)

    def retire(self, sender: str, value: int) -> None:
        i = self.of_sender(sender)
        refuse((not self.is_listed(i), "NotServing", i))
        self.end_service(i)

    def serve(self, sender: str, value: int, task: int) -> None:
        t = self.running(task)
        refuse((not t.params.challenge_window, *invalid("challengeWindow")))
        i = self.of_sender(sender)
        ripe = self.verifiers[i].since + self.terms.verifier_age if i in self.verifiers else 0
        refuse(
            (not self.is_serving(i), "NotServing", i),
            (self.now < ripe, "TooEarlyToServe", ripe),
            ((task, i) in self.places, "AlreadyServing", i),
        )
        self.pools.setdefault(task, []).append(i)
        self.places[task, i] = Place(self.now, self.block)
        self.emit("ServiceBegun", task, i)

    def quit(self, sender: str, value: int, task: int) -> None:
        i = self.of_sender(sender)
        refuse((not self.is_placed(task, i), "NotServing", i))
        if self.undrawn(task):
            # Whose draw may be known already must be found where it was.
            self.places[task, i].left_block = self.block
            self.emit("ServiceEnded", task, i)
        else:
            self.remove(task, i)

    def strike(self, sender: str, value: int, task: int, ids: tuple[int, ...]) -> None:
        struck = [i for i in dict.fromkeys(ids) if self.is_lapsed(task, i)]
        refuse(
            (self.undrawn(task), "JuryNotDrawn", task),
            (not struck, "NobodyStruck", task),
        )
        for i in struck:
            self.remove(task, i)

    def is_placed(self, task: int, i: int) -> bool:
        return (task, i) in self.places and not self.places[task, i].left_block

    def still_serves(self, task: int, i: int) -> bool:
        """Whether a verifier serves a task, and has done so ever since it took its place."""
        if not self.is_placed(task, i) or not self.is_serving(i):
            return False
        return self.places[task, i].since_block >= self.verifiers[i].since_block

    def is_lapsed(self, task: int, i: int) -> bool:
        """Whether somebody has a place in a task's pool, and serves it no more."""
        return (task, i) in self.places and not self.still_serves(task, i)

    def remove(self, task: int, i: int) -> None:
        """Take a verifier out of a task's pool; the last one takes its place."""
        if self.is_placed(task, i):
            self.emit("ServiceEnded", task, i)
        pool = self.pools[task]
        last = pool.pop()
        if last != i:
            pool[pool.index(i)] = last
        del self.places[task, i]

    # What the ledger sees for itself.

    def report_equivocation(self, sender: str, value: int, task: int, number: int, i: int, a: Claim, b: Claim) -> None:
        t = self.posted(task)
        refuse(
            (not 1 <= number <= len(t.rounds), "RoundNotOpen", task, number),
            (a.commitment == b.commitment, "NotRefuted"),
        )
        offence = keccak(encode(["uint8", "uint256", "uint32", "uint32"], [EQUIVOCATION, task, number, i]))
        refuse(
            (i not in t.rounds[number - 1].selected, "NotSelected", i),
            *self.unmade(task, number, i, a),
            *self.unmade(task, number, i, b),
            ((task, number, i) in self.punished, "AlreadyPunished", offence),
        )
        self.punished.add((task, number, i))
        # The reporter gets nothing of the penalty, or to report oneself would make it smaller.
        penalty = t.params.penalty
        taken = self.slash(i, penalty + penalty // PROVER_SHARE, task, number, EQUIVOCATION)
        self.emit("Equivocated", task, number, i, sender)
        self.credit(sender, max(0, taken - penalty))
        self.burn(min(taken, penalty))

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
        self.let_go(dispute)

    # Replays.

    def challenge_round(self, sender: str, value: int, task: int, number: int) -> None:
        t, r = self.challengeable(task, number)
        serving, least = self.serving(task, r.opened, self.block), self.terms.least_pool
        refuse(
            (r.challenged is not None, "AlreadyChallenged", task, number),
            (serving < least, "TooFewVerifiers", serving, least),
            self.lacks(sender, value, t.params.bond),
        )
        r.challenged = len(self.disputes)
        d = self.open_dispute(sender, value, task, number, 0, DisputeKind.REPLAY)
        self.call(r.challenged, d)

    def draw_jury(self, sender: str, value: int, dispute: int) -> None:
        d = self.ongoing(dispute, DisputeKind.REPLAY)
        jury = d.jury
        early = self.block <= jury.draw_block or self.now >= jury.draw_until
        refuse((jury.commits_until, "NotInTime", 0, jury.draw_until))
        refuse((early, "NotInTime", jury.draw_block + 1, jury.draw_until))
        seed = block_hash(jury.draw_block, self.block)
        if seed == ZERO:
            jury.draw_block, jury.pool = self.block + 1, len(self.pools[d.task])
            self.emit("JuryCalled", dispute, d.level, jury.draw_block)
            return
        jury.commits_until = self.now + self.terms.dispute_period
        jury.reveals_until = jury.commits_until + self.terms.dispute_period
        jury.members = self.drawn(d, keccak(encode(["bytes32", "uint256", "uint8"], [seed, dispute, d.level])))
        self.emit("JuryDrawn", dispute, d.level, tuple(jury.members))

    def drawn(self, d: Dispute, seed: bytes) -> list[int]:
        """Shuffle the places of the pool by the seed, and take from the front who may judge.

        Who may not, because it has left or has too small a stake, is taken out of the pool, unless another jury is
        still to be drawn from it.
        """
        places, pool = list(range(d.jury.pool)), self.pools[d.task]
        members: list[int] = []
        gone = []
        for k in range(min(LOOKS, len(places))):
            if len(members) == seats_of_jury(self.terms, d.level):
                break
            draw = int.from_bytes(keccak(encode(["bytes32", "uint256"], [seed, k])), "big")
            other = k + draw % (len(places) - k)
            places[k], places[other] = places[other], places[k]
            if places[k] >= len(pool):
                continue
            i = pool[places[k]]
            if self.may_judge(d, i):
                members.append(i)
            elif not self.still_serves(d.task, i):
                gone.append(i)
        for i in gone if not self.undrawn(d.task) else ():
            self.remove(d.task, i)
        return members

    def may_judge(self, d: Dispute, i: int) -> bool:
        """Whether a verifier served when the round was opened and when the last jury was called.

        It must have been silent on no jury before it, and be no party.
        """
        p, opened = self.participants[i], self.tasks[d.task - 1].rounds[d.number - 1].opened
        party = {d.challenger, self.tasks[d.task - 1].seats[d.accused].holder} & {p.owner, p.signer}
        silent = any(i in jury.members and i not in jury.found for jury in d.juries[:-1])
        return self.served(d.task, i, opened, d.jury.draw_block) and not party and not silent

    def commit_vote(self, sender: str, value: int, dispute: int, digest: bytes) -> None:
        d = self.ongoing(dispute, DisputeKind.REPLAY)
        jury = d.jury
        refuse((self.now >= jury.commits_until, "NotInTime", 0, jury.commits_until))
        i = self.juror(dispute, jury, sender)
        refuse((digest == ZERO, "EmptyCommitment"), (i in jury.votes, "AlreadyVoted", i))
        jury.votes[i] = Vote(digest)
        self.emit("VoteCommitted", dispute, d.level, i, digest)

    def reveal_vote(
        self, sender: str, value: int, dispute: int, finding: Finding, transcript: bytes, salt: bytes
    ) -> None:
        d = self.ongoing(dispute, DisputeKind.REPLAY)
        jury = d.jury
        begun = len(jury.votes) == len(jury.members) or self.now >= jury.commits_until
        in_time = begun and self.now < jury.reveals_until
        refuse((not in_time, "NotInTime", jury.commits_until, jury.reveals_until))
        i = self.juror(dispute, jury, sender)
        digest = jury.votes[i].commitment if i in jury.votes else ZERO
        found = self.vote(dispute, d.level, i, finding, transcript, salt)
        nothing = finding is Finding.NONE or (finding is Finding.UNABLE and transcript != ZERO)
        refuse((nothing, "NoFinding"), (digest != found, "WrongVote", digest, found))
        refuse((jury.votes[i].finding is not None, "AlreadyVoted", i))
        jury.votes[i].finding = finding, transcript
        self.emit("VoteRevealed", dispute, d.level, i, finding, transcript, salt)

    def decide(self, sender: str, value: int, dispute: int) -> None:
        d = self.ongoing(dispute, DisputeKind.REPLAY)
        jury = d.jury
        until = jury.reveals_until or jury.draw_until
        refuse((jury.decided, "NotInTime", 0, jury.reveals_until))
        refuse((not jury.complete and self.now < until, "NotInTime", until, FOREVER))
        jury.decided = True
        votes = Counter(jury.found.values())
        cast = votes.total()
        if cast >= LEAST_VOTES and cast > len(jury.members) / 2:
            jury.finding = next((found for found, count in votes.items() if count > cast / 2), None)
        self.emit("JuryDecided", dispute, d.level, jury.says, jury.finding[1] if jury.finding else ZERO)
        higher = self.can_go_higher(d)
        if jury.says in JUDGED:
            d.deadline = self.now + (self.terms.dispute_period if higher else 0)
        elif higher and d.unable < MOST_UNABLE:
            self.call(dispute, d)
        else:
            d.deadline = self.now

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
            self.close_moot(dispute, d)
            self.let_go(dispute)
            return
        undecided = d.kind is DisputeKind.REPLAY and not d.jury.decided
        refuse((self.now < d.deadline or undecided, "NotInTime", d.deadline, FOREVER))
        if d.kind is DisputeKind.COMMITMENT:
            self.close(dispute, DisputeStatus.OVERTURNED)
            self.credit(d.challenger, d.bond)
            self.overturn(t, d.number, d.accused, d.challenger, dispute)
        elif d.jury.says in JUDGED:
            self.close_decided(t, dispute, d, d.jury.says)
        else:
            self.close_open(t, dispute, d)
        self.let_go(dispute)

    def close_moot(self, dispute: int, d: Dispute) -> None:
        """The round fell for another reason: all bonds are returned, and who had voted shares what was won by that."""
        won, d.won = d.won, 0
        self.close(dispute, DisputeStatus.MOOT)
        self.credit(d.challenger, d.bond)
        for jury in d.juries:
            self.credit(jury.appellant, jury.appeal_bond)
        voted = [i for jury in d.juries for i in jury.members if i in jury.votes]
        self.share(d.challenger, voted, won)

    def close_open(self, t: Task, dispute: int, d: Dispute) -> None:
        """Nobody knows who is right: all bonds are returned, and the round is made again; only silence is fined.

        If a jury could not judge it, the challenger pays a seat's worth for each jury.
        """
        unable = d.unable > 0
        self.close(dispute, DisputeStatus.UNJUDGED if unable else DisputeStatus.UNDECIDED)
        fee = min(d.bond, len(d.juries) * self.terms.juror_penalty) if unable else 0
        self.credit(d.challenger, d.bond - fee)
        self.burn(fee)
        for jury in d.juries:
            self.credit(jury.appellant, jury.appeal_bond)
        for jury in d.juries:
            for i in jury.members:
                if i not in jury.found:
                    self.fine(d, i, SILENCE)
        self.void(t, d.number, len(t.rounds))

    def close_decided(self, t: Task, dispute: int, d: Dispute, finding: Finding) -> None:
        """What the losers had at stake is shared between the winner and the jurors who were right."""
        proposer = t.seats[d.accused].holder
        pot = 0
        for jury in d.juries[:-1]:
            # Who appealed held the opposite of what this jury had found.
            if jury.says is finding:
                pot += jury.appeal_bond
            else:
                self.credit(jury.appellant, jury.appeal_bond)
        if finding is Finding.VALID:
            self.close(dispute, DisputeStatus.UPHELD)
            pot += d.bond
        else:
            self.close(dispute, DisputeStatus.OVERTURNED)
            self.credit(d.challenger, d.bond)
            pot += self.forfeit(t, d.number, d.accused, dispute)
        right = self.judge_jurors(d)
        self.share(proposer if finding is Finding.VALID else d.challenger, right, pot)
        if finding is Finding.INVALID:
            self.void(t, d.number, len(t.rounds))

    def judge_jurors(self, d: Dispute) -> list[int]:
        """Fine jurors who were silent or found something else; return those who were right, once for each jury.

        The transcript of a level is that of the one above it, hashed. Who could not judge is right to say so where its
        own jury could not.
        """
        assert d.jury.finding is not None
        right = []
        said, transcript = d.jury.finding
        for jury in reversed(d.juries):
            for i in jury.members:
                found = jury.found.get(i)
                if found == (said, transcript):
                    right.append(i)
                elif found is None:
                    self.fine(d, i, SILENCE)
                elif found[0] is not Finding.UNABLE:
                    self.fine(d, i, MINORITY)
                elif jury.says is not Finding.UNABLE:
                    self.fine(d, i, CANNOT_JUDGE)
            transcript = keccak(transcript)
        return right

    def share(self, winner: str, right: list[int], pot: int) -> None:
        """Give the winner half of a pot, and the jurors a quarter or their seats' worth, if half is enough for it."""
        self.credit(winner, pot // 2)
        wages = min(pot // 2, max(pot // 4, len(right) * self.terms.juror_penalty))
        each = wages // len(right) if right else 0
        for i in right:
            self.credit(self.participants[i].owner, each)
        self.burn(pot - pot // 2 - each * len(right))

    def fine(self, d: Dispute, i: int, offence: int) -> None:
        self.burn(self.slash(i, self.terms.juror_penalty, d.task, d.number, offence))

    # What the transactions share.

    def vote(self, dispute: int, level: int, juror: int, finding: Finding, transcript: bytes, salt: bytes) -> bytes:
        """Return what a juror commits to."""
        kinds = ["uint256", "address", "uint256", "uint8", "uint32", "uint8", "bytes32", "bytes32"]
        return keccak(encode(kinds, [self.chain_id, self.address, dispute, level, juror, finding, transcript, salt]))

    def can_go_higher(self, d: Dispute) -> bool:
        """Whether there is a next level, and anybody who did not sit on this one."""
        return d.level < self.terms.appeals and d.jury.pool > len(d.jury.members)

    def call(self, dispute: int, d: Dispute) -> None:
        d.juries.append(Jury(self.block, self.now + self.terms.dispute_period, len(self.pools.get(d.task, ()))))
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
        self.hold(t, r.seat, len(self.disputes) - 1)
        return self.disputes[-1]

    def hold(self, t: Task, place: int, dispute: int) -> None:
        """Keep a seat's deposit for the disputes about it, whatever else the seat may lose meanwhile."""
        seat = t.seats[place]
        seat.disputes += 1
        seat.first = dispute if seat.first is None else seat.first
        if not seat.held and seat.deposit:
            seat.held, seat.deposit = seat.deposit, 0
            self.emit("DepositHeld", self.number_of(t), place, seat.held)

    def let_go(self, dispute: int) -> None:
        """Once a dispute is closed, pass its claim on the deposit to the oldest open challenge.

        If there is none, a condemned deposit is burned; else it goes back with the last dispute.
        """
        d = self.disputes[dispute]
        t = self.tasks[d.task - 1]
        seat = t.seats[d.accused]
        seat.disputes -= 1
        if seat.first == dispute:
            seat.first = min(self.contested(t, d.accused).values(), default=None)
            if seat.condemned and seat.first is None:
                self.burn(self.lose(t, d.accused))
        if seat.disputes:
            return
        back, seat.held, seat.first = seat.held, 0, None
        if not back:
            return
        self.emit("DepositReturned", d.task, d.accused, back)
        if t.finished or seat.deposit + back > t.params.bond:
            self.credit(seat.holder, back)
        else:
            seat.deposit += back

    def lose(self, t: Task, place: int) -> int:
        """Take all that is held of a seat's deposit; there is nothing left to condemn."""
        seat = t.seats[place]
        lost, seat.held, seat.condemned = seat.held, 0, False
        if lost:
            self.emit("SeatCharged", self.number_of(t), place, seat.holder, lost)
        return lost

    def contested(self, t: Task, place: int) -> dict[int, int]:
        """Return the open challenges of a seat's proposals that stand, by round."""
        return {
            number: r.challenged
            for number, r in enumerate(t.rounds, 1)
            if r.status is RoundStatus.PROPOSED and r.seat == place
            if r.challenged is not None and self.disputes[r.challenged].is_open
        }

    def is_claimed(self, t: Task, number: int, place: int, dispute: int) -> bool:
        """Whether a dispute about an earlier round than this one has a claim on what is held of a seat.

        That is the first one, or a challenge that is older than the given dispute.
        """
        older = [there for there, challenge in self.contested(t, place).items() if challenge < dispute]
        first = t.seats[place].first
        if first is not None:
            there = self.disputes[first].number
            older += [there] if t.rounds[there - 1].status is not RoundStatus.VOIDED else []
        return min(older, default=number) < number

    def forfeit(self, t: Task, number: int, place: int, dispute: int) -> int:
        """Take what a seat loses for a false proposal, in a dispute: what is held of it, or its deposit if nothing is.

        If an earlier round's dispute has a claim on what is held, only what the seat has deposited since is taken; if
        that is nothing, what is held is lost whatever comes of that dispute.
        """
        seat = t.seats[place]
        claimed = self.is_claimed(t, number, place, dispute)
        taken = 0 if claimed else self.lose(t, place)
        taken = taken or self.charge(t, place)
        seat.condemned |= claimed and not taken and seat.held > 0
        return taken

    def close(self, dispute: int, status: DisputeStatus) -> None:
        d = self.disputes[dispute]
        d.status = status
        t = self.tasks[d.task - 1]
        t.rounds[d.number - 1].disputes -= 1
        t.last_final = self.now
        self.emit("DisputeClosed", dispute, status)

    def overturn(self, t: Task, number: int, place: int, prover: str, dispute: int | None = None) -> None:
        """Take the deposit of a seat, little of it for who proved what all could see, and void what built on the round.

        The rest is for those who replay the same proposal or, if nobody does, for the oldest challenge of the seat's
        proposals that fall with it; if there is none, it is burned. Who needs no dispute for it comes after all others.
        """
        taken = self.forfeit(t, number, place, len(self.disputes) if dispute is None else dispute)
        reward = taken // PROVER_SHARE
        self.credit(prover, reward)
        falling = {there: challenge for there, challenge in self.contested(t, place).items() if there >= number}
        if falling:
            self.disputes[falling.get(number, min(falling.values()))].won = taken - reward
        else:
            self.burn(taken - reward)
        self.void(t, number, len(t.rounds))

    def challengeable(self, task: int, number: int) -> tuple[Task, Round]:
        t = self.posted(task)
        r = t.rounds[number - 1] if 1 <= number <= len(t.rounds) else None
        if r is None or r.status is not RoundStatus.PROPOSED or not self.window_open(t, r):
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
        """Yield the fault of a claim that the participant has neither signed nor sent to a batched round.

        What a key signed that was not its signer while the round took commitments is not held against it.
        """
        t = self.posted(task)
        r = t.rounds[number - 1]
        if claim.signature:
            yield from self.unsigned(task, number, i, claim)
            signer = claim.signer(self.chain_id, self.address, task, number, i)
            since, until = self.keys.get(signer or "", (0, 0))
            closed = max(r.commits_closed, r.opened + t.params.commit_period)
            yield since > closed or 0 < until <= r.opened, "WrongSignature", signer
            return
        sent = r.commitments[i][1] if t.params.batched and i in r.commitments else None
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
