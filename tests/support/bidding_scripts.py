"""Short histories of bidding rounds and pooled pay, each of which turns on some of their rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eth_utils.crypto import keccak

from fedledger.contracts.ledger.records import DisputeStatus, Phase, RoundStatus
from fedledger.protocol.records.verdicts import Verdict
from support.court_scripts import DIRECT, Court, script
from support.ledger_machine import EVERYBODY, PARTICIPANTS, STRANGER, judged
from support.ledger_records import Outcome, Round, Task, Updates

EVERY = 3
BIDS: dict[str, Any] = {"bidding_every": EVERY, "max_unfinal": 1}


def task(c: Court) -> Task:
    return c.model.tasks[DIRECT - 1]


def settled(c: Court, **story: Any) -> Round:
    """Play a round, and settle it."""
    number = c.play(**story)
    c.skip(task(c), Phase.CHALLENGING)
    c.push(DIRECT)
    assert c.round_of(DIRECT, number) is RoundStatus.SETTLED
    c.every_view_agrees()
    return task(c).rounds[number - 1]


def opened(c: Court) -> Outcome:
    """Open a round that everybody commits to and reveals in; return what can be proposed of it."""
    c.open(DIRECT, EVERYBODY, 0, False)
    c.commit_many(DIRECT, EVERYBODY)
    c.skip(task(c), Phase.COMMITTING)
    c.reveal_many(DIRECT, EVERYBODY, 0)
    t, alike = task(c), [1] * PARTICIPANTS
    present = set(t.rounds[-1].salts)
    assert present == t.enrolled
    return judged(t, t.rounds[-1], alike, [None] * PARTICIPANTS, False, present, present)


def propose(c: Court, outcome: Outcome) -> bool:
    return c.do("proposeRound", c.aggregator(task(c), 0), DIRECT, len(task(c).rounds), outcome, Updates())


@script
def bids_every_third_round(c: Court) -> None:
    c.start(**BIDS)
    for number in range(1, 8):
        assert settled(c).bidding == (number % EVERY == 1)
    assert task(c).counted == 4


@script
def bids_that_grow_old(c: Court) -> None:
    """Nobody looks at what was heard days ago as at news of who made it."""
    c.start(**BIDS)
    settled(c)
    settled(c)
    settled(c)
    c.wait(3 * 86_400)
    assert settled(c, mask=EVERYBODY ^ 1).bidding


@script
def bids_of_everybody(c: Court) -> None:
    c.start(**BIDS)
    c.open(DIRECT, EVERYBODY ^ 1, 0, False)
    assert not task(c).rounds
    assert settled(c).bidding


@script
def bids_of_too_few(c: Court) -> None:
    """A row of voids is not ended by bids, and is by a round that trains."""
    c.start(**BIDS | {"bidding_every": 5})
    first = settled(c, silent=EVERYBODY ^ 1)
    assert first.empty and settled(c).bidding and not settled(c).bidding
    assert task(c).voids_in_a_row == 0


@script
def bids_that_fall(c: Court) -> None:
    c.start(**BIDS | {"bidding_every": 5})
    dispute = c.object(c.play())
    c.jury(dispute, "nnn")
    c.finish(dispute, DisputeStatus.OVERTURNED)
    assert settled(c).bidding and not settled(c).bidding


@script
def bids_are_heard_alone(c: Court) -> None:
    c.start(**BIDS)
    heard = opened(c)
    accepted = dict.fromkeys(heard.verdicts, Verdict.ACCEPTED)
    assert not propose(c, replace(heard, verdicts=accepted))
    assert not propose(c, replace(heard, verdicts=heard.verdicts | {3: Verdict.ACCEPTED}))
    assert not propose(c, replace(heard, model=(keccak(b"another"), 1)))
    assert not propose(c, replace(heard, shares=dict.fromkeys(heard.verdicts, 1)))
    assert propose(c, heard)
    c.skip(task(c), Phase.CHALLENGING)
    c.push(DIRECT)
    trained = opened(c)
    assert not propose(c, replace(trained, verdicts=trained.verdicts | {3: Verdict.HEARD}, shares={}))
    assert propose(c, trained)


@script
def pay_that_is_left(c: Court) -> None:
    """The first round leaves half; one unit more than what is left is too much, of the next and of the one after it."""
    c.start(pools_pay=True, max_unfinal=1)
    settled(c)
    units = task(c).params.units_per_round
    assert task(c).spent == units // 2
    for left in (units + units // 2, units):
        right = opened(c)
        assert task(c).payable == left
        all_of_it = dict.fromkeys(right.shares, 0) | {0: left}
        assert not propose(c, replace(right, shares=all_of_it | {1: 1}))
        assert propose(c, replace(right, shares=all_of_it))
        c.skip(task(c), Phase.CHALLENGING)
        c.push(DIRECT)


@script
def voids_between_bids(c: Court) -> None:
    """Who bids and never trains keeps no publisher from ending a task."""
    c.start(**BIDS | {"bidding_every": 2})
    for _ in range(3):
        assert settled(c).bidding
        assert not c.do("finishTask", task(c).publisher, DIRECT)
        c.open(DIRECT, EVERYBODY, 0, False)
        c.skip(task(c), Phase.COMMITTING)
        assert c.do("voidRound", STRANGER, DIRECT, len(task(c).rounds))
    assert c.do("finishTask", task(c).publisher, DIRECT)
