"""What the ledger has to do about scores, as plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from fedledger.contracts.ledger.records import Phase, RoundStatus
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.signatures import recover, scores_message
from fedledger.protocol.records.verdicts import Verdict
from support.counted_scores import WORST, counted
from support.evm import block_hash
from support.ledger_checks import Checks
from support.ledger_model import LOOKS
from support.ledger_records import ZERO, AllShown, Fault, Refused, Round, Scoring, Shown, Task, Updates, named, refuse

FOREVER = 2**256 - 1
NOBODY_AT_ALL = 2**32 - 1
DRAWS = 64
FULL = 500_000
LANES, BITS = 16, 16
Drawn = tuple[bytes, list[int]]


class Scores(Checks):
    """The ledger with scores."""

    def call_scorers(
        self,
        sender: str,
        value: int,
        task: int,
        number: int,
        indices: tuple[int, ...],
        words: tuple[int, ...],
        updates: Updates,
    ) -> None:
        t, r = self.open(task, number)
        p, phase, due = t.params, self.round_phase(t, r), self.reveals_end(t, r)
        shown = r.selected & r.salts.keys()
        present = {i for word in words for i in range(256) if word >> i & 1} if p.batched else shown
        count, told = len(present), len(updates.refs)
        wrong = bool(present - r.selected or shown - present)
        refuse(
            (not p.scorers or r.bidding, "NotScored", task),
            (self.scoring_of(t, r) is not None, "AlreadyCalled", task, number),
            (phase in (Phase.COMMITTING, Phase.CLOSING), "CommitsAreOpen"),
            (p.batched and not r.commits_closed, "CommitsAreOpen"),
            (phase is Phase.ADMITTING, "StillAdmitting", r.commits_closed),
            (phase is Phase.OVERDUE, "ProposalOverdue"),
            *self.turn_faults(t, sender, due),
            (len(words) != (len(indices) if p.batched else 0), "LengthMismatch"),
            *part_of(r, indices),
            (p.batched and wrong, "WrongList", ZERO, words[0].to_bytes(32, "big") if words else ZERO),
            (count > r.committed, "WrongCount", count, r.committed),
            (count != r.committed and self.reveals_run(t, r), "RevealsAreOpen"),
            (told != (count if p.batched else 0), "WrongCount", told, count if p.batched else 0),
            (updates.more, "LengthMismatch"),
        )
        self.act(t, sender, due)
        if t.scoring is not None:
            t.scoring.is_drawn = True
        too_few = count < p.quorum
        pool = min(LOOKS, len(self.pools.get(task, []))) if p.verifiers_score and not too_few else 0
        hashed = updates.hash if p.batched else ZERO
        t.scoring = Scoring(number, self.now, self.block, present, hashed, too_few, pool)
        self.emit("ScorersCalled", task, number, count, indices, words)

    def draw_scorers(self, sender: str, value: int, task: int, number: int, indices: tuple[int, ...]) -> None:
        t, r, s = self.called(task, number)
        refuse((s.is_drawn, "AlreadyCalled", task, number), *self.undrawable(r, s, indices))
        self.draw_now(t, r, s)

    def commit_score(
        self, sender: str, value: int, task: int, number: int, indices: tuple[int, ...], commitment: bytes
    ) -> None:
        t, r, s = self.called(task, number)
        until = s.called + t.params.score_period
        refuse((self.now >= until, "NotInTime", 0, until), *self.undrawable(r, s, indices))
        refuse((commitment == ZERO, "EmptyCommitment"))
        i, scorers = self.of_sender(sender), self.drawn_by(t, r, s)[1]
        refuse((i not in scorers, "NotScorer", i))
        place = scorers.index(i)
        refuse((place in s.committed, "AlreadyCommitted", i))
        self.draw_now(t, r, s)
        s.own[place] = commitment
        self.emit("ScoresCommitted", task, number, 1 << place, (commitment,))

    def list_scores(
        self,
        sender: str,
        value: int,
        task: int,
        number: int,
        indices: tuple[int, ...],
        places: int,
        commitments: tuple[bytes, ...],
        signatures: tuple[bytes, ...],
    ) -> None:
        t, r, s = self.called(task, number)
        until, due = s.called + t.params.score_period, self.proposal_due(t, r)
        refuse(
            (self.now >= until, "NotInTime", 0, until),
            *self.untimely(task, number, t, r),
            *self.turn_faults(t, sender, due),
            *self.undrawable(r, s, indices),
        )
        scorers = self.drawn_by(t, r, s)[1]
        chosen = [place for place in range(16) if places >> place & 1]
        refuse(
            (s.listed, "WrongScores", places),
            (places >> len(scorers), "WrongScores", places),
            (not len(chosen) == len(commitments) == len(signatures), "LengthMismatch"),
        )
        where = (self.chain_id, to_checksum_address(self.address), task)
        signed = {}
        for place, commitment, signature in zip(chosen, commitments, signatures, strict=True):
            i = scorers[place]
            by = recover(scores_message(where, number, i, commitment), signature) or ""
            if by.lower() == self.participants[i].signer and place not in s.own:
                signed[place] = commitment
        refuse((not signed, "WrongScores", places))
        self.act(t, sender, due)
        self.draw_now(t, r, s)
        s.listed = signed
        t.list_of_scores = keccak(b"".join(signed.values()))
        self.emit("ScoresCommitted", task, number, sum(1 << place for place in signed), tuple(signed.values()))

    def reveal_score(
        self, sender: str, value: int, task: int, number: int, shown: Shown, commitments: tuple[bytes, ...]
    ) -> None:
        t, _, s = self.called(task, number)
        since = s.called + t.params.score_period
        until, place = since + t.params.score_period, shown.place
        early = self.now < since and not s.all_committed
        refuse((early or self.now >= until, "NotInTime", since, until))
        i = s.scorers[place] if place < len(s.scorers) else NOBODY_AT_ALL
        refuse((place in s.revealed, "AlreadyRevealed", i))
        told = keccak(b"".join(commitments))
        if place in s.listed:
            refuse((told != t.list_of_scores, "WrongList", t.list_of_scores, told))
        expected, found = s.committed.get(place, ZERO), self.score_commitment(task, number, i, shown)
        refuse(
            (expected != found, "WrongReveal", expected, found),
            (not are_scores(shown.words, len(s.present)), "WrongScores", place),
        )
        s.revealed.add(place)
        self.emit("ScoreRevealed", task, number, i, shown.record)

    def tally_scores(
        self,
        sender: str,
        value: int,
        task: int,
        number: int,
        indices: tuple[int, ...],
        scores: AllShown,
        unopened: tuple[bytes, ...],
        recommenders: tuple[str, ...],
    ) -> None:
        t, r, s = self.called(task, number)
        due = self.proposal_due(t, r)
        refuse(*self.untimely(task, number, t, r), *self.turn_faults(t, sender, due))
        self.require_recommenders(t, recommenders)
        refuse(*self.unlike_committed(task, number, t, s, scores.each, unopened))
        places = [one.place for one in scores.each]
        refuse(*self.too_early(t, s, set(places)))
        if len(places) > len(s.scorers) // 2 and len(s.scorers) >= 3:
            refuse(*part_of(r, indices))
        self.act(t, sender, due)
        s.is_drawn = s.tallied = True
        limit, outvoted, far = self.count(t, s, scores.each, recommenders)
        r.outvoted = set(outvoted)
        silent = [place for place in range(len(s.scorers)) if place not in places]
        for place, i in enumerate(s.scorers):
            # Who is silent has failed as who is far has.
            verdict = Verdict.COSINE if place in silent or place in far else Verdict.ACCEPTED
            if verdict is not Verdict.ACCEPTED or place in s.stained:
                key = t.publisher, i
                self.scorer_evidence[key] = self.scorer_evidence.get(key, Evidence()).after(verdict)
        bits = (sum(1 << place for place in which) for which in (silent, far))
        self.emit("ScoresTallied", task, number, scores.records, limit, tuple(outvoted), *bits)

    # What these share.

    def called(self, task: int, number: int) -> tuple[Task, Round, Scoring]:
        """Return a round whose scorers have been called, and are not tallied."""
        t = self.tasks[task - 1] if 1 <= task <= len(self.tasks) else None
        if t is None or t.scoring is None or t.scoring.number != number:
            raise Refused(named([(True, "NotCalled", task, number)]))
        refuse((t.scoring.tallied, "AlreadyTallied", task, number))
        return t, t.rounds[number - 1], t.scoring

    def untimely(self, task: int, number: int, t: Task, r: Round) -> Iterator[Fault]:
        yield r.status is not RoundStatus.OPEN, "RoundNotOpen", task, number
        late = r.committed < t.params.quorum or self.now >= self.proposal_due(t, r) + self.all_turns(t)
        yield late, "ProposalOverdue"

    def undrawable(self, r: Round, s: Scoring, indices: tuple[int, ...]) -> Iterator[Fault]:
        """Yield why scorers that are not drawn yet cannot be drawn now."""
        if s.is_drawn:
            return
        yield self.block <= s.draw_block, "NotInTime", s.draw_block + 1, FOREVER
        if block_hash(s.draw_block, self.block) != ZERO:
            yield from part_of(r, indices)

    def drawn_by(self, t: Task, r: Round, s: Scoring) -> Drawn:
        """Return the seed of a draw and the scorers, as they are or as they would be drawn now."""
        if s.is_drawn:
            return ZERO, s.scorers
        known = block_hash(s.draw_block, self.block)
        task = self.number_of(t)
        if known == ZERO:
            return ZERO, []
        seed = keccak(encode(["bytes32", "uint256", "uint32"], [known, task, s.number]))
        pool: Sequence[int | None] = sorted(r.selected)
        if t.params.verifiers_score:
            front = self.pools.get(task, [])[: s.pool]
            pool = [i if self.served(task, i, s.called, s.draw_block + 1) else None for i in front]
        found: list[int] = []
        for attempt in range(DRAWS):
            if not pool or len(found) == t.params.scorers:
                break
            drawn = int.from_bytes(keccak(encode(["bytes32", "uint256"], [seed, attempt])), "big")
            i = pool[drawn % len(pool)]
            if i is None or i in found:
                continue
            evidence = self.scorer_evidence.get((t.publisher, i))
            if evidence is None or (drawn >> 128) % FULL < evidence.reputation:
                found.append(i)
        return seed, found

    def draw_now(self, t: Task, r: Round, s: Scoring) -> None:
        if s.is_drawn:
            return
        seed, s.scorers = self.drawn_by(t, r, s)
        s.is_drawn = True
        s.stained = {place for place, i in enumerate(s.scorers) if (t.publisher, i) in self.scorer_evidence}
        if seed != ZERO:
            # Two words are kept, the second one from earlier rounds if nobody is in it.
            kept = t.places_of_scorers[8:] if len(s.scorers) <= 8 else [0] * 7
            t.places_of_scorers = [*s.scorers, *[0] * (8 - len(s.scorers)), *kept]
            t.places_of_scorers = t.places_of_scorers[:15]
        self.emit("ScorersDrawn", self.number_of(t), s.number, seed, tuple(s.scorers))

    def score_commitment(self, task: int, number: int, i: int, shown: Shown) -> bytes:
        kinds = ["uint256", "address", "uint256", "uint32", "uint32", "bytes32", "uint256[]"]
        return keccak(encode(kinds, [self.chain_id, self.address, task, number, i, shown.salt, list(shown.words)]))

    def unlike_committed(
        self, task: int, number: int, t: Task, s: Scoring, scores: Sequence[Shown], unopened: Sequence[bytes]
    ) -> Iterator[Fault]:
        """Yield why scores are not what their scorers committed to."""
        places = [one.place for one in scores]
        by_place, rest, listed = {one.place: one for one in scores}, list(unopened), []
        orderly = places == sorted(set(places)) and all(place < len(s.scorers) for place in places)
        for place in range(len(s.scorers)):
            one = by_place.get(place) if orderly else None
            if one is None:
                if place in s.listed and rest:
                    listed.append(rest.pop(0))
                continue
            found = self.score_commitment(task, number, s.scorers[place], one)
            yield not are_scores(one.words, len(s.present)), "WrongScores", place
            if place in s.listed:
                listed.append(found)
            else:
                expected = s.own.get(place, ZERO)
                yield expected != found, "WrongReveal", expected, found
        told = keccak(b"".join(listed))
        lacking_list = sum(place in s.listed and place not in by_place for place in range(len(s.scorers)))
        yield not orderly or len(unopened) != lacking_list, "LengthMismatch"
        yield len(s.listed) > 0 and told != t.list_of_scores, "WrongList", t.list_of_scores, told
        lacking = sum(1 << place for place in s.revealed - set(places))
        yield lacking > 0, "MissingScores", lacking

    def too_early(self, t: Task, s: Scoring, places: set[int]) -> Iterator[Fault]:
        period = t.params.score_period
        closed = s.all_committed or (s.is_drawn and self.now >= s.called + period)
        if not closed or places != set(s.committed):
            yield self.now < s.called + 2 * period, "NotInTime", s.called + 2 * period, FOREVER

    def count(
        self, t: Task, s: Scoring, scores: Sequence[Shown], recommenders: Sequence[str]
    ) -> tuple[int, list[int], list[int]]:
        """Return the limit, the outvoted participants, and the places of scorers that were far."""
        present = sorted(s.present)
        rows, excused = [], []
        biases = [
            {self.of_owner(owner) for owner in recommenders if (owner, i) in self.evidence} | {i} for i in s.scorers
        ]
        for one in scores:
            biased = biases[one.place]
            told = [one.words[rank // LANES] >> BITS * (rank % LANES) & 0xFFFF for rank in range(len(present))]
            rows.append([0 if j in biased else score for j, score in zip(present, told, strict=True)])
            excused.append(len(biased & s.present))
        barred = [sum(j in biased for biased in biases) for j in present]
        found = counted(rows, len(s.scorers), t.params.score_spread, t.params.score_floor, excused, barred)
        return found.limit, [present[rank] for rank in found.outvoted], [scores[row].place for row in found.far]


def part_of(r: Round, indices: tuple[int, ...]) -> Iterator[Fault]:
    """Yield why words are not all that a round selects; only the first of them has participants."""
    orderly = all(a < b for a, b in pairwise(indices)) and set(indices) <= {0}
    yield not orderly, "WordsNotAscending"
    seen = len(r.selected) * indices.count(0)
    yield orderly and seen != len(r.selected), "NotEverybodyJudged", seen, len(r.selected)


def are_scores(words: Sequence[int], count: int) -> bool:
    """Whether words are what somebody may say of so many updates."""
    if len(words) != -(-count // LANES):
        return False
    scores = [word >> BITS * lane & 0xFFFF for word in words for lane in range(LANES)]
    return max(scores, default=0) <= WORST and not any(scores[count:])
