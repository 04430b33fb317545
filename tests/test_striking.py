"""How verifiers take those who serve a task no more out of its pool."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.ledger.actor import Action, Step
from fedledger.contracts.ledger.guard import Guard
from fedledger.contracts.ledger.records import DisputeStatus
from fedledger.ledger_tools.verifier.striking import MOST_STRUCK, Striking
from fedledger.ledger_tools.verifier.verifier import RACES
from fedledger.protocol.records.commitment_batch import SignedCommitment
from fedledger.protocol.records.signatures import commitment_message, sign
from support.world import World, liar, settled, world, wrong_share

LOOKS = 64
TASK: Any = SimpleNamespace(id=1)


class Pool:
    """A ledger with a pool whose places have all lapsed; ``refused`` calls of ``strike`` fail."""

    def __init__(self, size: int, refused: int = 0) -> None:
        self.places, self.refused = list(range(size)), refused
        self.asked, self.named = 0, list[list[int]]()

    def lapsed(self, task: int) -> list[int]:
        self.asked += 1
        return list(self.places)

    def strike(self, account: object, task: int, ids: list[int]) -> None:
        self.named.append(ids)
        if len(self.named) <= self.refused:
            raise RevertedError("NobodyStruck", (task,), "strike")
        self.places = [i for i in self.places if i not in ids]


def striking(pool: Pool) -> Striking:
    context: Any = SimpleNamespace(guard=Guard(RACES), access=SimpleNamespace(ledger=pool, account=None))
    return Striking(context)


def seen(**more: Any) -> Any:
    """Return what a history tells, by default of a task that three serve."""
    return SimpleNamespace(**({"disputes": [], "former": {}, "serving": {1: {0, 1, 2}}, "slashed": Counter()} | more))


def test_front_places_come_first_and_no_call_names_too_many() -> None:
    pool = Pool(2 * MOST_STRUCK + 1)
    strike, step = striking(pool), Step(Action.WAITED)
    while step is not None:
        step = strike(seen(), TASK)
    assert pool.named == [list(range(40)), list(range(40, 80)), [80]] and MOST_STRUCK == 40


def test_after_a_call_that_fails_it_goes_on_with_the_others() -> None:
    pool = Pool(MOST_STRUCK + 1, refused=1)
    strike = striking(pool)
    assert strike(seen(), TASK) is None
    assert strike(seen(), TASK) is not None
    assert pool.named == [list(range(MOST_STRUCK)), [MOST_STRUCK]]
    # Then those come again whom the failed call named.
    assert strike(seen(), TASK) is None and strike(seen(), TASK) is not None
    assert pool.places == []


def test_while_a_jury_is_to_be_drawn_nobody_is_struck() -> None:
    dispute = SimpleNamespace(task=1, status=DisputeStatus.OPEN, awaits_draw=True)
    pool = Pool(1)
    assert striking(pool)(seen(disputes=[dispute]), TASK) is None and not pool.asked


def test_the_ledger_is_asked_only_when_somebody_left_or_lost_stake() -> None:
    pool = Pool(0)
    strike = striking(pool)
    assert not strike.is_due(seen(), TASK) and strike.is_due(seen(former={1: {5}}), TASK)
    # Who serves another task is of no interest.
    assert not strike.is_due(seen(slashed=Counter({7: 1})), TASK)
    slashed = seen(slashed=Counter({2: 1}))
    assert strike.is_due(slashed, TASK)
    assert strike(slashed, TASK) is None and not strike.is_due(slashed, TASK)
    assert strike.is_due(seen(slashed=Counter({2: 2})), TASK)


def make_poor(w: World, accounts: list[Any]) -> None:
    """Have participants sign two commitments each in a task of their own, which costs them next to nothing."""
    owner, names = w.purse("poster"), w.history.update().ids
    count = {"quorum": 1, "min_participants": len(accounts), "max_participants": len(accounts)}
    terms = {"batched": True, "penalty": 8, "min_stake": 8, "units_per_round": 1, "credit_unit": 1} | count
    task = w.ledger.post_task(owner, replace(w.params, aggregator=owner.address, **terms), [])
    for account in accounts:
        w.ledger.enrol(account, task)
    w.ledger.deposit(owner, w.params.bond)
    w.ledger.open_round(owner, task, 1, None)
    for account in accounts:
        i = names[account.address]
        place = w.chain.chain_id, w.ledger.address, task
        made = [
            (word, sign(commitment_message(place, 1, i, word), bytes(account.key))) for word in (b"1" * 32, b"2" * 32)
        ]
        w.ledger.report_equivocation(owner, task, 1, *(SignedCommitment(i, *each) for each in made))


@pytest.mark.parametrize("way", ["retire", "lose their stake"])
def test_places_in_front_hide_nobody_from_a_challenge(tmp_path: Path, way: str) -> None:
    """Enough places for all looks die when a lie is proposed; three verifiers behind them overturn it."""
    with world(tmp_path, rounds=1, verifiers=3) as w:
        dead = [w.purse(f"dead {number}") for number in range(LOOKS)]
        w.ledger.register_all(dead, w.ledger.settings().min_verifier_stake)
        for account in dead:
            w.ledger.enlist(account)
            w.ledger.serve(account, w.number)
        w.aggregators = []
        w.play(lambda: len(w.ledger.pool(w.number)) == LOOKS + 3)
        w.aggregators = [w.aggregator(kind=liar(wrong_share))]
        w.verifiers, verifiers = [], w.verifiers
        w.play(lambda: 1 in w.task.rounds and w.task.rounds[1].proposal is not None)
        if way == "retire":
            for account in dead:
                w.ledger.retire(account)
        else:
            make_poor(w, dead)
        w.verifiers = verifiers
        assert not w.ledger.has_judges(w.number, 1)
        w.play()
        assert w.statuses() == [DisputeStatus.OVERTURNED] and settled(w.task) == [2]
        assert w.did(Action.STRUCK)
