"""Whoever follows the protocol loses nothing by it, gas apart, whatever everybody else does.

A jury finds the truth as long as most of its votes are honest, so there are only so many liars that this holds for the
largest jury.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus, Finding, Phase, RoundStatus
from fedledger.protocol.records.verdicts import Verdict
from support.court_scripts import Court
from support.examples import examples
from support.ledger_machine import (
    AGGREGATORS,
    GUARDIAN,
    LEDGERS,
    OWNERS,
    PARTICIPANTS,
    SIGNERS,
    STAKE,
    STRANGER,
    salt,
    update,
)
from support.ledger_records import ZERO, Dispute, Params, Round, Task, least_bond

TICKS = 110
QUIET_TICKS = 200
WATCHER = GUARDIAN


class World(Court):
    """Some of nine participants, who are verifiers, too, and perhaps the aggregator follow the protocol; others attack.

    Of each round it is known whether its proposal follows. Liars among the jurors agree on what to say instead.
    """

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        self.draw = draw
        self.follows: dict[int, bool] = {}
        self.ending = False

    def settle_down(self) -> None:
        draw = self.draw
        ledger = draw.choice(LEDGERS)
        most = (ledger.jury_size - 1) // 2 if ledger.appeals == 0 else 3
        self.liars = set(draw.sample(range(PARTICIPANTS), draw.randint(0, most)))
        self.honest = [i for i in range(PARTICIPANTS) if i not in self.liars]
        self.fair = draw.random() < 0.4
        batched = draw.random() < 0.5
        ref = keccak(b"any"), 1
        terms = Params(
            ref,
            ref,
            AGGREGATORS[0],
            rounds=9,
            batched=batched,
            challenge_window=30,
            max_unfinal=draw.randint(1, 3),
            bond=least_bond(ledger) + draw.choice([0, 5000]),
            min_stake=STAKE,
            penalty=STAKE - 1,
            grace_period=6 if batched else 0,
        )
        helpers = draw.choice([(), (AGGREGATORS[2],)])
        self.begin(first=terms, second=terms, mask=510, helpers=helpers, past=[], ledger=ledger)
        self.stolen = self.honest[0]
        if draw.random() < 0.5:
            self.agree(SIGNERS[PARTICIPANTS], self.stolen)
            assert self.do("rotateSigner", OWNERS[self.stolen], SIGNERS[PARTICIPANTS])
        self.have_judges(1, sum(1 << i for i in (*self.honest, *(i for i in self.liars if draw.random() < 0.7))))
        self.wait(1)

    @property
    def t(self) -> Task:
        return self.model.tasks[0]

    @property
    def followers(self) -> set[str]:
        """The accounts that follow the protocol."""
        return {WATCHER, *(OWNERS[i] for i in self.honest), *([AGGREGATORS[0]] if self.fair else [])}

    @property
    def wealth(self) -> Counter[str]:
        """What everybody has, at hand or in the ledger."""
        model, found = self.model, Counter(self.model.wallets)
        found.update(model.balances)
        found.update(Counter({p.owner: p.stake + p.unbonding for p in model.participants}))
        for t in model.tasks:
            for seat in t.seats:
                found[seat.holder] += seat.deposit + seat.held
        for d in model.disputes:
            if d.is_open:
                found[d.challenger] += d.bond
                for jury in d.juries:
                    found[jury.appellant] += jury.appeal_bond
        return found

    def live(self) -> None:
        before = self.wealth
        for tick in range(TICKS + QUIET_TICKS):
            self.ending = tick >= TICKS
            if self.ending and not self.unfinished:
                break
            for _ in range(0 if self.ending else self.draw.choice([0, 0, 1, 3])):
                self.attack()
            for dispute, _ in self.open_replays() if self.draw.random() < 0.7 else ():
                self.lie(dispute)
            deeds = [self.watch, self.judge, self.take_part, self.aggregate]
            self.draw.shuffle(deeds)
            for deed in deeds:
                deed()
            self.wait(self.draw.choice([0, 1, 1, 2]))
        assert not self.open_replays()
        for dispute, d in enumerate(self.model.disputes):
            if d.is_open:
                self.push_dispute(dispute)
        self.every_wei_has_one_owner()
        self.final, self.closed = {}, set()
        self.every_view_agrees()
        lost = {who: after - before[who] for who in self.followers if (after := self.wealth[who]) < before[who]}
        assert lost == {}, (lost, self.fair, self.liars)
        for d in self.model.disputes:
            if d.kind is DisputeKind.REPLAY and d.status is not DisputeStatus.MOOT:
                assert d.status is (DisputeStatus.UPHELD if self.follows[d.number] else DisputeStatus.OVERTURNED)

    # Those who follow the protocol.

    def watch(self) -> None:
        """Challenge what does not follow, and appeal against juries that find otherwise than is true."""
        for number, r in self.standing_rounds():
            false = not self.follows.get(number, True)
            # Who has enlisted again since the round was opened judges later ones.
            judges = self.model.serving(1, r.opened, self.model.block) >= self.model.terms.least_pool
            if false and judges and r.challenged is None and self.model.window_open(self.t, r):
                assert self.do("challengeRound", WATCHER, 1, number, value=self.t.params.bond)
        for dispute, d in self.open_replays():
            wrong = Finding.INVALID if self.follows.get(d.number, True) else Finding.VALID
            if d.jury.decided and d.jury.says is wrong and self.model.can_go_higher(d) and self.model.now < d.deadline:
                assert self.do("appeal", WATCHER, dispute, value=d.bond << d.level + 1)

    def judge(self) -> None:
        """Do what honest jurors do, and what anyone may do for a dispute to go on."""
        for dispute, d in self.open_replays():
            jury = d.jury
            if not jury.commits_until and not jury.decided and self.model.block > jury.draw_block:
                self.do("drawJury", OWNERS[self.honest[-1]], dispute)
            for i in set(jury.members) & set(self.honest):
                if i not in jury.votes and self.model.now < jury.commits_until:
                    digest = self.model.vote(dispute, d.level, i, *self.truth(d, i))
                    assert self.do("commitVote", self.juror(i), dispute, digest)
            begun = len(jury.votes) == len(jury.members) or self.model.now >= jury.commits_until
            for i in set(jury.members) & set(self.honest):
                if begun and i not in jury.found and self.model.now < jury.reveals_until:
                    assert self.do("revealVote", self.juror(i), dispute, *self.truth(d, i))
            over = self.model.now >= (jury.reveals_until or jury.draw_until)
            if not jury.decided and (jury.complete or over):
                assert self.do("decide", OWNERS[self.honest[-1]], dispute)
            elif jury.decided and self.model.now >= d.deadline:
                assert self.do("closeDispute", OWNERS[self.honest[-1]], dispute)

    def truth(self, d: Dispute, who: int) -> tuple[Finding, bytes, bytes]:
        finding = Finding.VALID if self.follows.get(d.number, True) else Finding.INVALID
        return finding, self.transcript(b"core %d" % d.number, d.level), keccak(b"honest %d" % who)

    def transcript(self, core: bytes, level: int) -> bytes:
        found = keccak(core)
        for _ in range(self.model.terms.appeals - level):
            found = keccak(found)
        return found

    def take_part(self) -> None:
        """Commit and reveal in time; on chain in a batched round only if the root or the verdict leaves one out."""
        for number, r in enumerate(self.t.rounds, 1):
            if r.status not in (RoundStatus.OPEN, RoundStatus.PROPOSED):
                continue
            batched, phase = self.t.params.batched, self.model.round_phase(self.t, r)
            root = self.roots.get((1, number))
            for i in self.honest:
                listed = root is not None and i in root.participants
                pledges = phase is Phase.ADMITTING and not listed if batched else phase is Phase.COMMITTING
                if pledges and i not in r.commitments and i in r.selected:
                    assert self.do("commitUpdate", self.signer(i), 1, number, self.commitment(1, number, i))
                named = r.outcome is not None and r.outcome.verdict(i) is Verdict.LATE
                window = r.status is RoundStatus.PROPOSED and self.model.window_open(self.t, r)
                tells = (phase is Phase.REVEALING and i in r.commitments) or (batched and named and window)
                if tells and i not in r.salts and (listed or i in r.commitments):
                    steps = self.steps(1, number, i)
                    name, place = ("revealStaleUpdate", (steps,)) if steps else ("revealUpdate", ())
                    proof = self.proof(1, number, i)
                    assert self.do(name, self.signer(i), 1, number, *place, update(i, number), salt(i), proof)

    def aggregate(self) -> None:
        """Do what the task needs next; who is not fair lies in some way, or does nothing."""
        t, fair = self.t, self.fair
        if t.finished or (not fair and self.draw.random() < 0.2):
            return
        for dispute, _ in self.disputes_of(DisputeKind.COMMITMENT):
            if fair or self.draw.random() < 0.5:
                self.show_own(dispute)
        if self.model.settleable(t) and (call := self.next_push(1)):
            assert self.do(call.name, AGGREGATORS[0], *call.arguments)
        phase = self.model.phase(t)
        ended = t.stopped or t.counted + len(t.rounds) - t.final >= t.params.rounds
        if (
            not self.ending
            and not t.of(RoundStatus.OPEN)
            and len(t.rounds) - t.final < t.params.max_unfinal
            and not ended
        ):
            self.do("openRound", AGGREGATORS[0], 1, len(t.rounds) + 1, (), ())
        elif t.params.batched and phase is Phase.CLOSING:
            self.close(1, self.some(511), 0, 0, "own" if fair or self.draw.random() < 0.7 else "twice")
        elif phase is Phase.PROPOSING:
            self.put_forward()

    def some(self, everybody: int) -> int:
        """Return whom an aggregator takes up: all who are honest, if it is fair, and some of the liars."""
        mask = sum(1 << i for i in self.liars if self.draw.random() < 0.5)
        left = 0 if self.fair or self.draw.random() < 0.5 else 1 << self.draw.choice(self.honest)
        return (mask | sum(1 << i for i in self.honest)) & ~left & everybody

    def put_forward(self) -> None:
        t, number = self.t, len(self.t.rounds)
        follows = self.fair or self.draw.random() < 0.4
        refusals: list[Verdict | None] = [None] * PARTICIPANTS
        for i in self.honest if not follows else ():
            refusals[i] = self.draw.choice([None, Verdict.MALFORMED, Verdict.NORM, Verdict.REPLAYED])
        told = self.some(511)
        false = None if self.fair else self.draw.choice([None, None, *self.honest])
        self.propose(1, [1] * PARTICIPANTS, refusals, told, False, 0, false)
        if t.rounds[number - 1].status is RoundStatus.PROPOSED:
            self.follows[number] = follows

    # The others.

    def attack(self) -> None:
        draw, liars = self.draw, sorted(self.liars)
        bad = [STRANGER, AGGREGATORS[1], *(OWNERS[i] for i in liars), *([] if self.fair else [AGGREGATORS[0]])]
        who, number = draw.choice(bad), draw.randint(1, max(1, len(self.t.rounds)))
        disputes = [dispute for dispute, _ in self.open_replays()]
        dispute = draw.choice(disputes) if disputes else 0
        rich: dict[str, Any] = {"value": 10**6}
        deed = draw.randrange(14)
        if deed == 0:
            self.do("challengeRound", who, 1, number, **rich)
        elif deed == 1 and self.t.rounds and liars:
            self.reveal(1, draw.choice(liars), 0, draw.randrange(PARTICIPANTS), False, 0, True, None)
        elif deed in (2, 3) and liars:
            self.commit(1, draw.choice(liars), 0, draw.choice(["own", "copied"]))
        elif deed == 4 and disputes:
            self.do("appeal", who, dispute, value=10**7)
        elif deed == 5:
            self.do("demandCommitment", who, 1, number, draw.choice(self.honest), self.posted(1, number, False), **rich)
        elif deed == 6:
            self.refute_all(1, draw.randint(0, 2))
        elif deed == 7 and liars:
            name = draw.choice(["retire", "enlist", "requestExit", "cancelExit"])
            self.do(name, OWNERS[draw.choice(liars)])
        elif deed == 8 and liars:
            self.do(draw.choice(["quit", "serve"]), OWNERS[draw.choice(liars)], 1)
        elif deed == 9:
            self.do("strike", who, 1, tuple(draw.sample(range(PARTICIPANTS), draw.randint(0, 3))))
        elif deed == 10:
            self.do(draw.choice(["drawJury", "decide", "closeDispute"]), who, draw.randint(0, 3))
        elif deed == 11:
            self.slander(who, number)
        elif deed == 12:
            self.push(1)
        elif deed == 13 and draw.random() < 0.5:
            self.part()

    def part(self) -> None:
        """Let somebody who is honest leave the pool, as long as those who stay outvote the liars."""
        there = [i for i in self.honest if self.model.is_placed(1, i) and self.model.is_listed(i)]
        if len(there) > len(self.liars) + 1:
            name, *task = self.draw.choice([("retire",), ("quit", 1)])
            self.do(name, OWNERS[self.draw.choice(there)], *task)

    def lie(self, dispute: int) -> None:
        """Let a liar do what it may on a jury: all of them say the same, or it does something by itself."""
        d = self.model.disputes[dispute]
        for i in set(d.jury.members) & self.liars:
            alone = self.draw.random() < 0.2
            wrong = Finding.INVALID if self.follows.get(d.number, True) else Finding.VALID
            finding = self.draw.choice(list(Finding)[1:]) if alone else wrong
            lie = self.transcript(b"%d" % self.draw.randrange(9) if alone else b"lie", d.level)
            vote = finding, ZERO if finding is Finding.UNABLE else lie, keccak(b"vote %d" % i)
            if i not in d.jury.votes:
                if self.do("commitVote", self.juror(i), dispute, self.model.vote(dispute, d.level, i, *vote)):
                    self.votes[dispute, d.level, i] = vote
            elif (kept := self.votes.get((dispute, d.level, i))) and self.draw.random() < 0.9:
                self.do("revealVote", self.juror(i), dispute, *kept)

    def slander(self, who: str, number: int) -> None:
        """Report somebody by commitments that another has signed, or with a key that it had before this round."""
        signer = SIGNERS[self.stolen]
        if self.signer(self.stolen) == signer:
            signer = SIGNERS[min(self.liars, default=PARTICIPANTS + 1)]
        one, two = (self.claim(1, number, self.stolen, keccak(word), signer) for word in (b"one", b"two"))
        self.do("reportEquivocation", who, 1, number, self.stolen, one, two)

    # What they see.

    @property
    def unfinished(self) -> bool:
        return bool(self.t.of(RoundStatus.OPEN, RoundStatus.PROPOSED)) or any(d.is_open for d in self.model.disputes)

    def standing_rounds(self) -> list[tuple[int, Round]]:
        return [(k, r) for k, r in enumerate(self.t.rounds, 1) if r.status is RoundStatus.PROPOSED]

    def open_replays(self) -> list[tuple[int, Dispute]]:
        return self.disputes_of(DisputeKind.REPLAY)

    def disputes_of(self, kind: DisputeKind) -> list[tuple[int, Dispute]]:
        """Return the open disputes about rounds that stand."""
        standing = [number for number, _ in self.standing_rounds()]
        known = enumerate(self.model.disputes)
        return [(k, d) for k, d in known if d.is_open and d.kind is kind and d.task == 1 and d.number in standing]


@pytest.mark.hypothesis
@examples(25)
@given(seed=st.integers(0, 2**32 - 1))
def test_who_follows_the_protocol_never_ends_with_less(seed: int) -> None:
    world = World(random.Random(seed))
    world.settle_down()
    world.live()
