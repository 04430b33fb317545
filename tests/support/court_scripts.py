"""Short histories of the court, each of which turns on one of its rules; the model says what has to come of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from eth_utils.crypto import keccak

from fedledger.contracts.ledger.records import DisputeStatus, RoundStatus, Settings
from fedledger.protocol.records.verdicts import Verdict
from support.ledger_juries import QUIET, LedgerMachine
from support.ledger_machine import (
    AGGREGATORS,
    DISPUTE_PERIOD,
    EVERYBODY,
    OWNERS,
    PARTICIPANTS,
    SIGNERS,
    STAKE,
    STRANGER,
    TERMS,
)
from support.ledger_records import Dispute, Params, least_bond

YOUNG = replace(TERMS, verifier_age=0)
ONE_LEVEL = replace(YOUNG, appeals=0)
DEAR = replace(ONE_LEVEL, juror_penalty=841)
SLOW = replace(YOUNG, exit_delay=6000)
FIVE = replace(ONE_LEVEL, jury_size=5, least_pool=5)
LONG = 300
DIRECT, BATCHED = 1, 2
ALL = range(PARTICIPANTS)
Script = Callable[["Court"], None]
SCRIPTS: dict[str, Script] = {}


def script(deed: Script) -> Script:
    SCRIPTS[deed.__name__] = deed
    return deed


class Court(LedgerMachine):
    """A machine with two tasks, a direct and a batched one, whose rounds can be challenged; scripts drive it."""

    def start(self, ledger: Settings = YOUNG, judges: Iterable[int] = ALL, task: int = DIRECT, **terms: Any) -> None:
        """Begin with verifiers who serve a task."""
        ref = keccak(b"any"), 1
        bonded: dict[str, Any] = {
            "bond": least_bond(ledger) + 1,
            "min_stake": STAKE,
            "challenge_window": 30,
            "max_unfinal": 3,
        }
        bonded |= {"aggregator": AGGREGATORS[0], "penalty": 797}
        posted = Params(ref, ref, rounds=9, **(bonded | terms))
        self.begin(first=posted, second=posted, mask=EVERYBODY, helpers=(AGGREGATORS[2],), past=[], ledger=ledger)
        self.have_judges(task, sum(1 << i for i in judges))
        self.wait(1)

    def play(self, task: int = DIRECT, **story: Any) -> int:
        """Play a round up to its proposal, by default one in which all is well; return its number."""
        quiet = QUIET | {"stack": True, "refusals": [None] * PARTICIPANTS}
        self.whole_round(task, quiet | story)
        number = len(self.model.tasks[task - 1].rounds)
        assert self.round_of(task, number) is RoundStatus.PROPOSED
        return number

    def three(self, challenged: Iterable[int] = (), false: Iterable[int] = ()) -> list[int]:
        """Play three batched rounds by one deposit, and challenge some of them; return the disputes."""
        self.start(SLOW, task=BATCHED, challenge_window=900)
        for number in (1, 2, 3):
            self.play(BATCHED, **({"false": 4, "alone": 0} if number in false else {}))
        return [self.object(number, task=BATCHED) for number in challenged]

    def round_of(self, task: int, number: int) -> RoundStatus:
        return self.model.tasks[task - 1].rounds[number - 1].status

    def object(self, number: int, challenger: str = STRANGER, task: int = DIRECT) -> int:
        """Challenge a round and return the dispute."""
        assert self.do("challengeRound", challenger, task, number, value=self.model.tasks[task - 1].params.bond)
        return len(self.model.disputes) - 1

    def dispute_of(self, dispute: int) -> Dispute:
        return self.model.disputes[dispute]

    def jury(self, dispute: int, findings: str) -> None:
        """Draw the last jury of a dispute, and let its members find this, in the order of their seats."""
        plan = {"leavers": 0, "leave": "retire", "forgotten": False, "back": False, "undrawn": False, "turn": ""}
        self.hear(dispute, self.dispute_of(dispute), plan | {"findings": findings.ljust(PARTICIPANTS, "s")})

    def finish(self, dispute: int, expected: DisputeStatus) -> None:
        """Let the last period of a dispute pass and close it."""
        self.wait(DISPUTE_PERIOD)
        assert self.do("closeDispute", STRANGER, dispute)
        assert self.dispute_of(dispute).status is expected
        self.every_view_agrees()

    def check(self) -> None:
        """Whatever a transaction did not tell is compared at the end, and everybody can be paid."""
        self.final, self.closed = {}, set()
        self.every_view_agrees()
        self.every_wei_has_one_owner()
        self.teardown()


def play(name: str, court: Court) -> None:
    SCRIPTS[name](court)
    court.check()


# What juries find.


@script
def agreed(c: Court) -> None:
    c.start()
    dispute = c.object(number := c.play())
    assert not c.do("drawJury", STRANGER, dispute)
    assert not c.do("challengeRound", STRANGER, DIRECT, number, value=10**6)
    c.jury(dispute, "yyy")
    c.finish(dispute, DisputeStatus.UPHELD)


@script
def denied(c: Court) -> None:
    c.start()
    dispute = c.object(c.play())
    c.jury(dispute, "nnn")
    c.finish(dispute, DisputeStatus.OVERTURNED)


@script
def half_of_the_votes(c: Court) -> None:
    """Two votes that contradict each other are no majority."""
    c.start(ONE_LEVEL)
    dispute = c.object(c.play())
    c.jury(dispute, "yns")
    c.finish(dispute, DisputeStatus.UNDECIDED)


@script
def two_of_five(c: Court) -> None:
    c.start(FIVE)
    dispute = c.object(c.play())
    c.jury(dispute, "yycss")
    c.finish(dispute, DisputeStatus.UNDECIDED)


@script
def two_of_four(c: Court) -> None:
    """The challenger serves the task, and is not drawn."""
    c.start(FIVE, judges=range(5))
    dispute = c.object(c.play(), OWNERS[0])
    c.jury(dispute, "yycs")
    c.finish(dispute, DisputeStatus.UNDECIDED)


@script
def three_of_five(c: Court) -> None:
    """More than half of the votes cast, though less than half of the seats; one finds otherwise, two are silent."""
    c.start(FIVE)
    dispute = c.object(c.play())
    c.jury(dispute, "yyncs")
    c.finish(dispute, DisputeStatus.UPHELD)


@script
def one_alone(c: Court) -> None:
    """Of two jurors one is silent; the other one is all of the next jury, and finds nothing by itself."""
    c.start(YOUNG, judges=range(3))
    dispute = c.object(c.play(), OWNERS[0])
    c.jury(dispute, "ys")
    assert len(c.dispute_of(dispute).juries) == 2
    c.jury(dispute, "y")
    assert len(c.dispute_of(dispute).juries[1].members) == 1
    c.jury(dispute, "y")
    c.finish(dispute, DisputeStatus.UNDECIDED)


@script
def by_other_ways(c: Court) -> None:
    """All find the same by three transcripts, one of which is that of another level."""
    c.start(ONE_LEVEL)
    dispute = c.object(c.play())
    c.jury(dispute, "yxw")
    c.finish(dispute, DisputeStatus.UNDECIDED)


@script
def by_another_way(c: Court) -> None:
    c.start()
    dispute = c.object(c.play())
    c.jury(dispute, "yyx")
    c.finish(dispute, DisputeStatus.UPHELD)


@script
def not_able(c: Court) -> None:
    """Who alone cannot judge pays; on a jury that could not, it does not."""
    c.start()
    dispute = c.object(c.play())
    c.jury(dispute, "uuy")
    c.jury(dispute, "yyyyyyu")
    c.finish(dispute, DisputeStatus.UPHELD)


@script
def two_unable_juries(c: Court) -> None:
    c.start()
    dispute = c.object(c.play())
    c.jury(dispute, "uuy")
    c.jury(dispute, "uuuuunn")
    c.finish(dispute, DisputeStatus.UNJUDGED)


@script
def unable_and_none_higher(c: Court) -> None:
    c.start(ONE_LEVEL)
    dispute = c.object(c.play())
    c.jury(dispute, "uus")
    c.finish(dispute, DisputeStatus.UNJUDGED)


@script
def unable_and_then_undecided(c: Court) -> None:
    """One jury cannot judge, the highest finds nothing."""
    c.start(replace(YOUNG, appeals=1))
    dispute = c.object(c.play())
    c.jury(dispute, "uus")
    c.jury(dispute, "yyynnnu")
    c.finish(dispute, DisputeStatus.UNJUDGED)


@script
def nothing_at_all(c: Court) -> None:
    """Nobody is drawn, then nobody commits, then nobody reveals."""
    c.start()
    dispute = c.object(c.play())
    c.wait(DISPUTE_PERIOD)
    assert c.do("decide", STRANGER, dispute)
    c.jury(dispute, "sssssss")
    c.jury(dispute, "ccccccccc")
    c.finish(dispute, DisputeStatus.UNDECIDED)
    assert c.do("quit", OWNERS[0], DIRECT)
    assert 0 not in c.model.pools[DIRECT]


@script
def illegal_votes(c: Court) -> None:
    c.start()
    dispute = c.object(c.play())
    c.jury(dispute, "zvy")
    c.jury(dispute, "yyyyzvy")
    c.finish(dispute, DisputeStatus.UPHELD)


# Appeals.


@script
def vain_appeals(c: Court) -> None:
    """Two appeals: the first one was right, as the last jury finds, and the second one was not."""
    c.start()
    dispute = c.object(c.play())
    c.jury(dispute, "nny")
    c.appeal(dispute, STRANGER, True)
    c.jury(dispute, "yyyyyyn")
    c.appeal(dispute, OWNERS[0], True)
    c.jury(dispute, "yyyyyyynx")
    c.finish(dispute, DisputeStatus.UPHELD)


@script
def rightful_appeal(c: Court) -> None:
    c.start()
    dispute = c.object(c.play())
    c.jury(dispute, "yyn")
    c.appeal(dispute, STRANGER, True)
    c.jury(dispute, "nnnnnyu")
    c.finish(dispute, DisputeStatus.OVERTURNED)


@script
def appeal_to_nobody(c: Court) -> None:
    """The higher jury finds nothing: everybody has its bonds back, and only the silent pay."""
    c.start(replace(YOUNG, appeals=1))
    dispute = c.object(c.play())
    c.jury(dispute, "nny")
    c.appeal(dispute, STRANGER, True)
    c.jury(dispute, "yyynnns")
    c.finish(dispute, DisputeStatus.UNDECIDED)


@script
def late_appeal(c: Court) -> None:
    c.start()
    dispute = c.object(c.play())
    c.jury(dispute, "yyn")
    c.wait(DISPUTE_PERIOD - 1)
    assert not c.do("closeDispute", STRANGER, dispute)
    c.wait(1)
    assert not c.do("appeal", STRANGER, dispute, value=10**9)
    c.finish(dispute, DisputeStatus.UPHELD)


# Who judges.


@script
def too_few(c: Court) -> None:
    c.start(judges=[0, 1])
    number = c.play(early=True)
    assert not c.do("challengeRound", STRANGER, DIRECT, number, value=10**6)
    # The third one comes at the time of the opening, but in the block of the challenge.
    assert c.do("enlist", OWNERS[2])
    c.wait(0)
    assert c.do("serve", OWNERS[2], DIRECT)
    assert not c.do("challengeRound", STRANGER, DIRECT, number, value=10**6)
    c.wait(0)
    dispute = c.object(number)
    c.jury(dispute, "yyy")
    c.finish(dispute, DisputeStatus.UPHELD)


@script
def one_more_after_the_opening(c: Court) -> None:
    """The third one comes when the round has been opened: it judges the next one."""
    c.start(judges=[0, 1])
    number = c.play()
    c.wait(1)
    c.have_judges(DIRECT, 0b111)
    c.wait(1)
    assert not c.do("challengeRound", STRANGER, DIRECT, number, value=10**6)
    dispute = c.object(c.play())
    c.jury(dispute, "yyy")
    c.finish(dispute, DisputeStatus.UPHELD)


@script
def came_after_the_opening(c: Court) -> None:
    """Who joins a pool to judge a lie is not drawn, though there are many, and the pool suffices without them."""
    c.start(judges=[0, 1, 2])
    number = c.play()
    c.wait(1)
    c.have_judges(DIRECT, EVERYBODY)
    c.wait(1)
    dispute = c.object(number)
    c.wait(0)
    assert c.do("drawJury", STRANGER, dispute)
    assert set(c.dispute_of(dispute).jury.members) == {0, 1, 2}
    c.jury(dispute, "yyy")
    c.finish(dispute, DisputeStatus.UPHELD)


@script
def too_young(c: Court) -> None:
    c.start(replace(YOUNG, verifier_age=20), judges=[0, 1])
    number = c.play()
    assert c.do("enlist", OWNERS[2])
    c.wait(19)
    assert not c.do("serve", OWNERS[2], DIRECT)
    c.wait(1)
    assert c.do("serve", OWNERS[2], DIRECT)
    c.wait(0)
    assert not c.do("challengeRound", STRANGER, DIRECT, number, value=10**6)
    c.object(c.play())


@script
def too_poor(c: Court) -> None:
    """A verifier whose stake was taken judges no more, and may be struck."""
    c.start(judges=[0, 1, 2], task=BATCHED)
    number = c.play(BATCHED)
    signer = c.signer(0)
    one, two = (c.claim(BATCHED, number, 0, keccak(word), signer) for word in (b"one", b"two"))
    assert c.do("reportEquivocation", STRANGER, BATCHED, number, 0, one, two)
    assert not c.do("challengeRound", STRANGER, BATCHED, number, value=10**6)
    assert not c.do("strike", STRANGER, BATCHED, (1,))
    assert not c.do("strike", STRANGER, BATCHED, ())
    # Who serves, or has no place, keeps nobody else in.
    assert c.do("strike", STRANGER, BATCHED, (8, 1, 0, 0))
    assert c.model.pools[BATCHED] == [2, 1]
    assert not c.do("strike", STRANGER, BATCHED, (0,))


@script
def left_before(c: Court) -> None:
    """Of three one retires a block before the challenge."""
    c.start(judges=[0, 1, 2])
    number = c.play()
    assert c.do("retire", OWNERS[1])
    c.wait(0)
    assert not c.do("challengeRound", STRANGER, DIRECT, number, value=10**6)
    c.wait(DISPUTE_PERIOD - 1)
    assert not c.do("enlist", OWNERS[1])
    c.wait(1)
    assert c.do("enlist", OWNERS[1])
    c.wait(0)
    # It has come back, but not to this task.
    assert not c.do("serve", OWNERS[1], DIRECT)
    assert not c.do("challengeRound", STRANGER, DIRECT, number, value=10**6)
    assert c.do("strike", STRANGER, DIRECT, (1,))
    assert c.do("serve", OWNERS[1], DIRECT)
    c.wait(0)
    assert not c.do("challengeRound", STRANGER, DIRECT, number, value=10**6)
    c.object(c.play())


@script
def left_after(c: Court) -> None:
    """All three leave after the call, each in another way; they are drawn, and pay for their silence."""
    c.start(judges=[0, 1, 2])
    dispute = c.object(c.play())
    c.wait(0)
    assert c.do("quit", OWNERS[0], DIRECT) and c.do("retire", OWNERS[1]) and c.do("requestExit", OWNERS[2])
    assert not c.do("quit", OWNERS[0], DIRECT)
    assert not c.do("strike", STRANGER, DIRECT, (1,))
    c.jury(dispute, "ssy")
    assert len(c.dispute_of(dispute).juries[0].members) == 3
    c.finish(dispute, DisputeStatus.UNDECIDED)


@script
def came_after(c: Court) -> None:
    """Who comes after the call is not drawn, nor who has left when the chain has forgotten the call's block."""
    c.start(ONE_LEVEL, judges=[0, 1, 2, 3])
    dispute = c.object(c.play())
    c.wait(1)
    for i in (4, 5, 6, 7, 8):
        assert c.do("enlist", OWNERS[i]) and c.do("serve", OWNERS[i], DIRECT)
    c.wait(0)
    assert c.do("quit", OWNERS[3], DIRECT)
    c.wait(0, LONG)
    assert c.do("drawJury", STRANGER, dispute)
    c.wait(0, 2)
    c.jury(dispute, "yyy")
    assert set(c.dispute_of(dispute).jury.members) == {0, 1, 2}
    c.finish(dispute, DisputeStatus.UPHELD)


@script
def parties(c: Court) -> None:
    """The challenger and the proposer serve the task, too, as owner and as signer."""
    c.start(judges=[0, 1, 2, 3], aggregator=SIGNERS[1])
    assert c.do("deposit", SIGNERS[1], "0x" + "00" * 20, 10**6, value=10**6)
    dispute = c.object(c.play(), OWNERS[0])
    c.jury(dispute, "yy")
    assert set(c.dispute_of(dispute).juries[0].members) == {2, 3}
    c.finish(dispute, DisputeStatus.UPHELD)


@script
def drawn_and_gone(c: Court) -> None:
    """Places of who left are given up when a jury is drawn, and not before the last one is."""
    c.start(judges=ALL)
    first = c.play()
    second = c.play()
    for i in (7, 8):
        assert c.do("retire", OWNERS[i])
    c.wait(0)
    one, two = c.object(first), c.object(second)
    c.wait(0)
    assert c.do("drawJury", STRANGER, one)
    assert len(c.model.pools[DIRECT]) == PARTICIPANTS
    assert c.do("quit", OWNERS[0], DIRECT)
    assert not c.do("strike", STRANGER, DIRECT, (7, 8))
    assert c.do("drawJury", STRANGER, two)
    c.do("quit", OWNERS[1], DIRECT)
    gone = tuple(i for i in (0, 7, 8) if (DIRECT, i) in c.model.places)
    assert c.do("strike", STRANGER, DIRECT, gone)
    assert not c.do("serve", OWNERS[2], DIRECT)
    assert c.do("serve", OWNERS[0], DIRECT)


# Whose deposit answers for what.


@script
def held_and_returned(c: Court) -> None:
    """Two disputes about one seat, which has taken another deposit meanwhile: what was held goes to its balance."""
    c.start()
    first = c.play()
    one = c.object(first)
    second = c.play()
    two = c.object(second, OWNERS[0])
    for dispute in (one, two):
        c.push_dispute(dispute)
    assert not any(seat.held or seat.disputes for t in c.model.tasks for seat in t.seats)


@script
def held_and_back(c: Court) -> None:
    c.start()
    dispute = c.object(c.play())
    c.jury(dispute, "yyy")
    c.finish(dispute, DisputeStatus.UPHELD)
    assert c.model.tasks[DIRECT - 1].seats[0].deposit


@script
def condemned(c: Court) -> None:
    """The first round's dispute has the claim on the deposit; the second round is refuted; the first one stands."""
    one, _ = c.three(challenged=(1, 2), false=(3,))
    c.jury(one, "yyy")
    c.refute_missed(BATCHED, 2, 4, False)
    assert c.round_of(BATCHED, 3) is RoundStatus.VOIDED and c.condemned == 1
    c.finish(one, DisputeStatus.UPHELD)
    assert c.condemned == 1


@script
def condemned_and_burned(c: Court) -> None:
    one, three = c.three(challenged=(1, 3), false=(2,))
    c.jury(one, "yyy")
    c.refute_missed(BATCHED, 1, 4, False)
    c.finish(one, DisputeStatus.UPHELD)
    assert c.condemned == 0
    c.finish(three, DisputeStatus.MOOT)
    assert not c.model.tasks[BATCHED - 1].seats[0].deposit


@script
def condemned_and_taken(c: Court) -> None:
    """The claim passes on to the second round's dispute, but its proposal is refuted."""
    one, two = c.three(challenged=(1, 2), false=(2, 3))
    c.jury(one, "yyy")
    c.refute_missed(BATCHED, 2, 4, False)
    c.finish(one, DisputeStatus.UPHELD)
    c.refute_missed(BATCHED, 1, 4, False)
    assert c.condemned == 0 and c.dispute_of(two).won
    c.every_view_agrees()
    c.finish(two, DisputeStatus.MOOT)


@script
def condemned_and_won(c: Court) -> None:
    """The same, but the second round falls by its dispute."""
    one, two = c.three(challenged=(1, 2), false=(3,))
    c.jury(one, "yyy")
    c.refute_missed(BATCHED, 2, 4, False)
    c.jury(two, "nnn")
    c.finish(one, DisputeStatus.UPHELD)
    c.finish(two, DisputeStatus.OVERTURNED)
    assert c.condemned == 0


@script
def second_deposit(c: Court) -> None:
    """The first round's dispute has the claim on what is held; the second false proposal costs what came since."""
    c.start(task=BATCHED)
    one = c.object(c.play(BATCHED), task=BATCHED)
    c.jury(one, "yyy")
    seat = c.model.tasks[BATCHED - 1].seats[0]
    c.play(BATCHED, false=4, alone=0)
    assert seat.held and seat.deposit
    c.refute_missed(BATCHED, 1, 4, False)
    assert c.condemned == 0 and not seat.deposit
    c.finish(one, DisputeStatus.UPHELD)
    assert seat.deposit


@script
def passed_to_the_oldest(c: Court) -> None:
    """The third round's challenge is older than the second's, but the second round comes first all the same."""
    one, three, two = c.three(challenged=(1, 3, 2))
    c.jury(one, "yyy")
    c.jury(two, "nnn")
    c.finish(one, DisputeStatus.UPHELD)
    assert c.model.tasks[BATCHED - 1].seats[0].first == three
    c.finish(two, DisputeStatus.OVERTURNED)
    assert c.condemned == 0
    c.finish(three, DisputeStatus.MOOT)


@script
def passed_on_by_a_demand(c: Court) -> None:
    """A demand came first; when it is answered the claim is the challenge's, and not the next demand's."""
    c.three()
    posted = [c.posted(BATCHED, back, False) for back in (1, 2)]
    for number, who in ((1, 3), (2, 3)):
        assert c.do("demandCommitment", STRANGER, BATCHED, number, who, posted[number - 1], value=10**6)
    two = c.object(2, task=BATCHED)
    c.show_own(0)
    assert c.model.tasks[BATCHED - 1].seats[0].first == two
    c.jury(two, "nnn")
    c.finish(two, DisputeStatus.OVERTURNED)
    c.finish(1, DisputeStatus.MOOT)


@script
def claimed_by_a_demand(c: Court) -> None:
    """A demand has a claim if it is the first dispute."""
    c.three(false=(2,))
    assert c.do("demandCommitment", STRANGER, BATCHED, 1, 3, c.posted(BATCHED, 1, False), value=10**6)
    c.refute_missed(BATCHED, 1, 4, False)
    assert c.condemned == 1
    c.show_own(0)


@script
def fallen_claim(c: Court) -> None:
    """The first dispute is still open, but its round has fallen; it has no claim on the next deposit."""
    c.start(task=BATCHED)
    one = c.object(c.play(BATCHED, false=4, alone=0), task=BATCHED)
    c.refute_missed(BATCHED, 0, 4, False)
    two = c.object(c.play(BATCHED, false=4, alone=0), task=BATCHED)
    seat = c.model.tasks[BATCHED - 1].seats[0]
    assert seat.held and seat.first == one
    c.refute_missed(BATCHED, 0, 4, False)
    assert not seat.held and c.condemned == 0
    c.finish(two, DisputeStatus.MOOT)
    c.finish(one, DisputeStatus.MOOT)


@script
def younger_claim(c: Court) -> None:
    """An earlier round was challenged later, and has no claim before the other one."""
    two, one = c.three(challenged=(2, 1))
    c.jury(one, "yyy")
    c.jury(two, "nnn")
    c.finish(two, DisputeStatus.OVERTURNED)
    assert c.condemned == 0
    c.finish(one, DisputeStatus.UPHELD)


@script
def younger_claim_before_a_refutation(c: Court) -> None:
    """The same, but the later round is refuted; that comes after all challenges of earlier rounds."""
    two, one = c.three(challenged=(2, 1), false=(2,))
    c.jury(one, "yyy")
    c.refute_missed(BATCHED, 1, 4, False)
    assert c.condemned == 1
    c.finish(two, DisputeStatus.MOOT)
    assert c.condemned == 1
    c.finish(one, DisputeStatus.UPHELD)


@script
def older_claim(c: Court) -> None:
    """The first dispute is about a later round, but there is another about an earlier one before this one."""
    three, one, two = c.three(challenged=(3, 1, 2))
    c.jury(one, "yyy")
    c.jury(two, "nnn")
    c.finish(two, DisputeStatus.OVERTURNED)
    assert c.condemned == 1
    c.finish(three, DisputeStatus.MOOT)
    c.finish(one, DisputeStatus.UPHELD)


@script
def another_seat(c: Court) -> None:
    """What another aggregator's proposal is disputed for gives no claim on a standby's deposit."""
    c.start(SLOW, task=BATCHED, challenge_window=900)
    c.play(BATCHED)
    number = c.play(BATCHED, false=4, alone=0, turns=(1, 1, 1))
    one = c.object(1, task=BATCHED)
    assert c.do("demandCommitment", STRANGER, BATCHED, number, 3, c.posted(BATCHED, number, False), value=10**6)
    assert [seat.disputes for seat in c.model.tasks[BATCHED - 1].seats] == [1, 1]
    c.refute_missed(BATCHED, 1, 4, False)
    assert c.condemned == 0
    c.jury(one, "yyy")
    c.finish(one, DisputeStatus.UPHELD)


@script
def gain_of_the_oldest(c: Court) -> None:
    """Two challenges fall with an earlier round that is refuted: the older one has the gain."""
    three, two = c.three(challenged=(3, 2), false=(1,))
    c.draw(three, 1)
    c.commit_votes(three, dict.fromkeys(c.dispute_of(three).jury.members, "y"))
    c.refute_missed(BATCHED, 0, 4, False)
    assert c.dispute_of(three).won and not c.dispute_of(two).won
    c.finish(two, DisputeStatus.MOOT)
    c.finish(three, DisputeStatus.MOOT)


@script
def gain_of_its_own(c: Court) -> None:
    """A challenge of the refuted proposal comes before an older one that falls with it."""
    three, two = c.three(challenged=(3, 2), false=(2,))
    c.refute_missed(BATCHED, 1, 4, False)
    assert c.dispute_of(two).won and not c.dispute_of(three).won
    c.finish(three, DisputeStatus.MOOT)
    c.finish(two, DisputeStatus.MOOT)


@script
def gain_by_a_demand(c: Court) -> None:
    """A demand that nobody answers is older than an earlier round's challenge, which has no claim before it."""
    c.three(false=(2,))
    assert c.do("demandCommitment", STRANGER, BATCHED, 2, 3, c.posted(BATCHED, 2, False), value=10**6)
    one, three = c.object(1, task=BATCHED), c.object(3, task=BATCHED)
    c.finish(0, DisputeStatus.OVERTURNED)
    assert c.condemned == 0 and c.dispute_of(three).won
    c.push_dispute(one)
    c.finish(three, DisputeStatus.MOOT)


@script
def claimed_first(c: Court) -> None:
    """The same, but the first round falls, too."""
    c.start(task=BATCHED)
    one = c.object(c.play(BATCHED), task=BATCHED)
    c.jury(one, "nnn")
    c.play(BATCHED, false=4, alone=0)
    c.refute_missed(BATCHED, 1, 4, False)
    c.finish(one, DisputeStatus.OVERTURNED)


@script
def claimed_by_the_earlier_round(c: Court) -> None:
    """The second round's dispute came first, but the first round falls."""
    c.start(task=BATCHED)
    c.play(BATCHED, false=4, alone=0)
    two = c.object(c.play(BATCHED), task=BATCHED)
    c.refute_missed(BATCHED, 0, 4, False)
    assert c.condemned == 0
    c.finish(two, DisputeStatus.MOOT)


@script
def taken_again(c: Court) -> None:
    """The held deposit is gone, but the dispute is not yet closed; the next false proposal costs the new deposit."""
    c.start(task=BATCHED)
    dispute = c.object(c.play(BATCHED, false=4, alone=0), task=BATCHED)
    c.refute_missed(BATCHED, 0, 4, False)
    c.play(BATCHED, false=4, alone=0)
    assert c.model.tasks[BATCHED - 1].seats[0].deposit
    c.refute_missed(BATCHED, 0, 4, False)
    assert not c.model.tasks[BATCHED - 1].seats[0].deposit
    c.finish(dispute, DisputeStatus.MOOT)


@script
def shared_gain(c: Court) -> None:
    """A fault that all can see is proved while a jury sits: who had committed a vote shares with the challenger."""
    c.start(task=BATCHED)
    dispute = c.object(c.play(BATCHED, false=4, alone=0), task=BATCHED)
    c.draw(dispute, 1)
    first, second, _ = c.dispute_of(dispute).jury.members
    c.commit_votes(dispute, {first: "y", second: "n"})
    c.refute_missed(BATCHED, 0, 4, False)
    assert c.dispute_of(dispute).won
    c.finish(dispute, DisputeStatus.MOOT)


@script
def dear_gain(c: Court) -> None:
    """Seats are worth more than half of what there is to share."""
    c.start(DEAR, task=BATCHED)
    dispute = c.object(c.play(BATCHED, false=4, alone=0), task=BATCHED)
    c.draw(dispute, 1)
    c.commit_votes(dispute, dict.fromkeys(c.dispute_of(dispute).jury.members, "y"))
    c.refute_missed(BATCHED, 0, 4, False)
    c.finish(dispute, DisputeStatus.MOOT)


@script
def gain_of_nobody(c: Court) -> None:
    """The round falls before a jury is drawn; the next one of the task can be drawn and quit all the same."""
    c.start(task=BATCHED)
    dispute = c.object(c.play(BATCHED, false=4, alone=0), task=BATCHED)
    c.refute_missed(BATCHED, 0, 4, False)
    c.finish(dispute, DisputeStatus.MOOT)
    assert c.do("quit", OWNERS[0], BATCHED)
    assert 0 not in c.model.pools[BATCHED]


@script
def unanswered_demand(c: Court) -> None:
    c.start(task=BATCHED)
    number = c.play(BATCHED, false=4, alone=0)
    posted = c.posted(BATCHED, number, False)
    assert c.do("demandCommitment", STRANGER, BATCHED, number, 3, posted, value=10**6)
    c.finish(len(c.model.disputes) - 1, DisputeStatus.OVERTURNED)


@script
def answered_demand(c: Court) -> None:
    c.start(task=BATCHED)
    number = c.play(BATCHED, alone=0, mask=EVERYBODY - 1)
    assert c.do("demandCommitment", STRANGER, BATCHED, number, 3, c.posted(BATCHED, number, False), value=10**6)
    c.show_own(len(c.model.disputes) - 1)
    assert c.model.disputes[-1].status is DisputeStatus.UPHELD


@script
def twice_in_the_root(c: Court) -> None:
    c.start(task=BATCHED)
    number = c.play(BATCHED, alone=0, kind="twice")
    c.refute_duplicate(BATCHED, 0, 0)
    assert c.round_of(BATCHED, number) is RoundStatus.VOIDED


# Signing twice.


def report(c: Court, number: int, who: int, first: str, second: str) -> bool:
    one = c.claim(BATCHED, number, who, keccak(b"one"), first)
    two = c.claim(BATCHED, number, who, keccak(b"two"), second)
    return c.do("reportEquivocation", STRANGER, BATCHED, number, who, one, two)


@script
def signed_twice(c: Court) -> None:
    c.start(task=BATCHED)
    number = c.play(BATCHED)
    assert not report(c, number + 1, 2, SIGNERS[2], SIGNERS[2])
    assert report(c, number, 2, SIGNERS[2], SIGNERS[2])
    assert not report(c, number, 2, SIGNERS[2], SIGNERS[2])


@script
def signed_twice_without_a_stake_for_the_reward(c: Court) -> None:
    c.start(task=BATCHED, min_stake=2 * STAKE, penalty=2 * STAKE - 1)
    number = c.play(BATCHED)
    assert report(c, number, 2, SIGNERS[2], SIGNERS[2])


@script
def signed_by_other_keys(c: Court) -> None:
    """Keys that were replaced before the round, in it, and after it."""
    c.start(task=BATCHED)
    old, now, later = SIGNERS[2], SIGNERS[PARTICIPANTS], SIGNERS[PARTICIPANTS + 1]
    c.agree(now, 2)
    assert c.do("rotateSigner", OWNERS[2], now)
    number = c.play(BATCHED)
    c.agree(later, 2)
    assert c.do("rotateSigner", OWNERS[2], later)
    assert not report(c, number, 2, old, now)
    assert not report(c, number, 2, now, later)
    assert not report(c, number, 2, now, SIGNERS[3])
    assert report(c, number, 2, now, now)


@script
def signed_and_rotated(c: Court) -> None:
    """Who loses its key for a moment and takes it back answers for it all the same."""
    c.start(task=BATCHED)
    number = c.play(BATCHED)
    other = SIGNERS[PARTICIPANTS]
    c.agree(other, 2)
    for signer in (other, SIGNERS[2]):
        c.wait(1)
        assert c.do("rotateSigner", OWNERS[2], signer)
    assert report(c, number, 2, SIGNERS[2], SIGNERS[2])


@script
def not_selected(c: Court) -> None:
    c.start(task=BATCHED)
    t = c.model.tasks[BATCHED - 1]
    c.skip(t, c.model.phase(t))
    for number in (0, 2, 1):
        assert c.do("openRound", AGGREGATORS[0], BATCHED, number, (0,), (0b11110110,)) == (number == 1)
    assert not report(c, 1, 3, SIGNERS[3], SIGNERS[3])
    assert report(c, 1, 2, SIGNERS[2], SIGNERS[2])


# What a verdict costs.


@script
def nobody_to_judge(c: Court) -> None:
    """Too few verifiers: garbage costs reputation, but no stake."""
    c.start(judges=[0, 1])
    c.play(refusals=[None, None, Verdict.MALFORMED] + [None] * 6)
    c.wait(30)
    c.push(DIRECT)


@script
def come_after_the_proposal(c: Court) -> None:
    c.start(judges=[0, 1])
    c.play(refusals=[None, None, Verdict.MALFORMED] + [None] * 6)
    c.wait(1)
    c.have_judges(DIRECT, 0b1111)
    c.wait(30)
    c.push(DIRECT)


@script
def come_before_the_proposal(c: Court) -> None:
    """The third one serves when the round has been opened, and before it is proposed: nobody is punished."""
    c.start(judges=[0, 1])
    t = c.model.tasks[DIRECT - 1]
    c.skip(t, c.model.phase(t))
    c.open(DIRECT, EVERYBODY, 0, False)
    c.wait(1)
    c.have_judges(DIRECT, 0b1011)
    c.commit_many(DIRECT, EVERYBODY)
    c.reveal_many(DIRECT, EVERYBODY, 0)
    refusals = [None, None, Verdict.MALFORMED] + [None] * 6
    c.propose(DIRECT, [1] * PARTICIPANTS, refusals, EVERYBODY, False, 0, None)
    assert c.round_of(DIRECT, 1) is RoundStatus.PROPOSED
    c.wait(30)
    c.push(DIRECT)
    assert c.round_of(DIRECT, 1) is RoundStatus.SETTLED
    assert c.model.participants[2].stake % STAKE == 0


@script
def gone_before_the_settlement(c: Court) -> None:
    c.start(judges=[0, 1, 3])
    c.play(refusals=[None, None, Verdict.MALFORMED] + [None] * 6)
    c.wait(30)
    assert c.do("retire", OWNERS[3])
    c.push(DIRECT)


@script
def judged_to_the_last(c: Court) -> None:
    c.start(judges=[0, 1, 3])
    c.play(refusals=[None, None, Verdict.MALFORMED] + [None] * 6)
    c.wait(30)
    c.push(DIRECT)
    assert c.model.participants[2].stake % STAKE


@script
def counted_in_blocks(c: Court) -> None:
    """A round can be challenged for so many blocks, whatever the time."""
    c.start(replace(YOUNG, least_window_blocks=9))
    number = c.play(refusals=[None, None, Verdict.MALFORMED] + [None] * 6)
    c.wait(100, 8)
    c.push(DIRECT)
    assert c.round_of(DIRECT, number) is RoundStatus.PROPOSED
    dispute = c.object(number)
    c.jury(dispute, "yyy")
    c.finish(dispute, DisputeStatus.UPHELD)
    c.push(DIRECT)
    assert c.round_of(DIRECT, number) is RoundStatus.SETTLED


@script
def late_by_word_alone(c: Court) -> None:
    """Called late, but revealed since: it was absent, and pays nothing."""
    c.start(task=BATCHED, grace_period=6)
    number = c.play(BATCHED, mask=EVERYBODY - 1 - 16, alone=16, silent=16)
    r = c.model.tasks[BATCHED - 1].rounds[number - 1]
    assert r.outcome and r.outcome.verdict(4) is Verdict.LATE and 4 in r.salts
    c.wait(30)
    c.push(BATCHED)
    assert c.round_of(BATCHED, number) is RoundStatus.SETTLED


@script
def waited_for_blocks(c: Court) -> None:
    """Blocks are slow: a stranger who settles first gets nothing of the aggregator, but does when it sleeps on."""
    for blocks, bounty in ((9, False), (18, True)):
        c.start(replace(YOUNG, least_window_blocks=9))
        c.play()
        deposit = c.model.tasks[DIRECT - 1].seats[0].deposit
        c.wait(500, blocks)
        c.push(DIRECT)
        assert (c.model.tasks[DIRECT - 1].seats[0].deposit < deposit) == bounty
