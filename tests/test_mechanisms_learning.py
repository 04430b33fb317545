"""Mechanisms that keep tables: instalments, a reward that is learned, and trials apart from bids."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.mechanisms import whole_tallies
from fedledger.aggregator.mechanisms.base import Offer, Seen, Terms
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.reputation import PPM
from support.examples import examples
from support.markets import address, asked, auction, market, mechanism

MILLION = 1_000_000


def instalments(rounds: int, waiting: bool, budget: int = 2 * MILLION) -> list[tuple[list[int], list[list[int]]]]:
    """The reference's vector, with what was paid and the queues after each round."""
    method = mechanism("fli@1", omega=1.5, waiting=waiting)
    tables: Any = whole_tallies.stored({address(0): (2 * MILLION, MILLION)}, 2)
    found = []
    for _ in range(rounds):
        here = market(auction([MILLION, MILLION // 2, MILLION // 5]), budget, tables=tables)
        terms = asked(method, here)
        seen = {address(i): Seen(True, score=score) for i, score in enumerate((1, 2, 0))}
        pays = method.pay(here, terms, seen)
        tables = method.learn(here, terms, seen, pays)
        queues = whole_tallies.read(tables, 2)
        found.append(([pays[address(i)] for i in range(3)], [list(queues.get(address(i), (0, 0))) for i in range(3)]))
    return found


def test_instalments_are_the_reference_s() -> None:
    assert instalments(1, waiting=True)[0][0] == [1_379_310, 574_713, 45_977]
    assert instalments(1, waiting=False)[0][0] == [1_298_701, 649_351, 51_948]


def test_queues_grow_by_costs_and_shrink_by_pay() -> None:
    (pays, queues), (_, after) = instalments(2, waiting=True)
    assert queues == [[3 * MILLION - pays[0], 2 * MILLION - pays[0]], [0, 0], [200_000 - pays[2], 0]]
    # Whoever had regret, waits: the third one, from the second round on.
    assert after[2][1] > 0


@pytest.mark.parametrize("waiting", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_regret_does_not_grow_where_the_budget_covers_the_costs(seed: int, waiting: bool) -> None:
    chance = Random(f"regret {seed}")
    costs = [chance.randint(100, 10_000) for _ in range(6)]
    method = mechanism("fli@1", waiting=waiting)
    tables: Any = {}
    most = []
    for _ in range(400):
        here = market(auction(costs), sum(costs) * 6 // 5, tables=tables)
        terms = asked(method, here)
        seen = {address(i): Seen(True, score=chance.randint(0, 1000)) for i in range(6)}
        tables = method.learn(here, terms, seen, method.pay(here, terms, seen))
        regrets = whole_tallies.read(tables, 2)
        most.append(max(regrets.get(address(i), (0, 0))[0] / costs[i] for i in range(6)))
    assert max(most) < 3


def test_an_update_that_does_not_count_leaves_its_queues() -> None:
    method = mechanism("fli@1")
    tables = whole_tallies.stored({address(0): (5, 7), address(1): (5, 7)}, 2)
    here = market(auction([3, 3]), 4, tables=tables)
    terms = asked(method, here)
    seen = {address(0): Seen(False, score=9), address(1): Seen(True)}
    pays = method.pay(here, terms, seen)
    assert pays == {address(1): 4}
    assert whole_tallies.read(method.learn(here, terms, seen, pays), 2) == {address(0): (5, 7), address(1): (4, 6)}


def followers(costs: list[float], tau: float) -> list[float]:
    """The equilibrium of Zhan's game: the dearest stay away one by one."""
    playing = sorted(range(len(costs)), key=costs.__getitem__)
    while len(playing) > 1 and (len(playing) - 1) * costs[playing[-1]] >= sum(costs[i] for i in playing):
        playing.pop()
    m, total = len(playing), sum(costs[i] for i in playing)
    return [
        (m - 1) * tau / total * (1 - (m - 1) * costs[i] / total) if i in playing else 0.0 for i in range(len(costs))
    ]


def learned(costs: list[float], worth: float, rounds: int, noise: Callable[[], float], **changed: Any) -> float:
    """The reward that a leader has found after so many rounds, over the best one."""
    active = [c for c, x in zip(costs, followers(costs, 1.0), strict=True) if x]
    best = worth - sum(active) / (len(active) - 1)
    scale = 1_000_000
    grid = [round(scale * worth * (j + 1) / 64) for j in range(64)]
    method = mechanism("zhan_learned@1", rewards=grid, worth=round(scale * worth), unit=scale, **changed)
    tables: Any = {}
    for _ in range(rounds):
        here = market(auction([0] * len(costs)), 2**50, tables=tables)
        terms = asked(method, here)
        given_ = followers(costs, method.reward(here) / scale)
        seen = {address(i): Seen(True, examples=max(0, round(scale * x * noise()))) for i, x in enumerate(given_)}
        pays = method.pay(here, terms, seen)
        tables = method.learn(here, terms, seen, pays)
    return float(method.best(tables)) / scale / best


def test_the_reference_s_leader_learns_its_reward() -> None:
    assert followers([1.5, 4.0], 4.5) == pytest.approx([0.595041, 0.223140], abs=1e-6)
    assert abs(learned([1.5, 4.0], 10.0, 100, lambda: 1.0) - 1) < 0.05


@pytest.mark.parametrize("seed", range(20))
def test_a_leader_learns_within_five_percent_in_games_of_any_kind(seed: int) -> None:
    chance = Random(f"leaders {seed}")
    costs = [chance.uniform(0.5, 5.0) for _ in range(chance.randint(2, 8))]
    active = [c for c, x in zip(costs, followers(costs, 1.0), strict=True) if x]
    worth = sum(active) / (len(active) - 1) * chance.uniform(1.7, 6.0)
    assert abs(learned(costs, worth, 100, lambda: 1.0) - 1) < 0.05


def test_a_leader_tries_each_reward_first_and_then_explores_in_proportion_to_doubt() -> None:
    bold, meek = (mechanism("zhan_learned@1", exploration=e) for e in (10_000, 0))
    for method, tries in ((bold, 3), (meek, 1)):
        tables: Any = {}
        rewards = []
        for _ in range(12):
            here = market(auction([0, 0]), 10**6, tables=tables)
            rewards.append(method.reward(here))
            terms = asked(method, here)
            seen = {address(0): Seen(True, examples=rewards[-1] == 100)}
            tables = method.learn(here, terms, seen, method.pay(here, terms, seen))
        assert rewards[:3] == [50, 100, 200]
        assert (tables["arms"][:, 0] >= tries).all() and tables["arms"][:, 0].sum() == 12


@pytest.mark.parametrize("rewards", [[], [2, 1], [1, 1], [-1], ["a"]])
def test_rewards_that_do_not_ascend_are_refused(rewards: Any) -> None:
    with pytest.raises(ConfigError):
        mechanism("zhan_learned@1", rewards=rewards)


@pytest.mark.parametrize("key", ["fli@1", "truthful_bandit@1", "zhan_learned@1"])
def test_tables_of_another_mechanism_are_refused(key: str) -> None:
    here = market(auction([1]), 10, tables={n: np.zeros((1, 7), np.int64) for n in ("owners", "arms", "rounds")})
    with pytest.raises(ConfigError):
        method = mechanism(key)
        terms = asked(method, here)
        method.pay(here, terms, {})


BUDGET, LIMIT = 100, 50
"""Of a bandit that tries two in a round."""
QUALITIES = [10, 20, 40, 30, 5]


def lived(bids: Callable[[int, int], int], rounds: int = 12, **changed: Any) -> list[dict[str, Any]]:
    """The tables after each round in which everybody asked delivers its quality."""
    method = mechanism("truthful_bandit@1", **changed)
    tables, found = {}, []
    for round_ in range(rounds):
        offers = [Offer(address(i), {"cost": bids(round_, i)}) for i in range(len(QUALITIES))]
        here = market(
            offers, BUDGET, tables=tables, round=round_ + 1, draws=lambda r=round_: stream(bytes(32), "round", r)
        )
        terms = asked(method, here)
        seen = {owner: Seen(True, score=QUALITIES[int(owner, 16)]) for owner in terms}
        tables = dict(method.learn(here, terms, seen, method.pay(here, terms, seen)))
        found.append({name: table.tolist() for name, table in tables.items()})
    return found


@given(st.data())
@examples(100)
def test_no_bid_up_to_the_limit_changes_what_is_learned(data: st.DataObject) -> None:
    first = data.draw(st.lists(st.integers(0, LIMIT), min_size=60, max_size=60))
    assert lived(lambda r, i: first[5 * r + i]) == lived(lambda r, i: 0)


def test_who_is_not_available_fails_its_trial_and_keeps_everybody_else_s() -> None:
    away = lived(lambda r, i: LIMIT + 1 if i == 2 else 0)[-1]
    here = lived(lambda r, i: 0)[-1]
    tried, there = (whole_tallies.read({k: np.array(v) for k, v in t.items()}, 2) for t in (away, here))
    assert {owner: row[0] for owner, row in tried.items()} == {owner: row[0] for owner, row in there.items()}
    assert tried[address(2)][1] == 0 < there[address(2)][1]


def test_trials_take_turns_and_find_the_best() -> None:
    tables = lived(lambda r, i: 10, rounds=200)[-1]
    kept = whole_tallies.read({k: np.array(v) for k, v in tables.items()}, 2)
    tries = [kept[address(i)][0] for i in range(5)]
    assert max(tries) - min(tries) <= 1
    method = mechanism("truthful_bandit@1")
    values = [method.value(kept[address(i)]) for i in range(5)]
    assert sorted(range(5), key=values.__getitem__) == sorted(range(5), key=QUALITIES.__getitem__)


def test_what_is_remembered_of_old_trials_is_limited() -> None:
    method, tables = mechanism("truthful_bandit@1", tries_a_round=1, every=1, remembered=4), {}
    values = []
    for round_ in range(60):
        here = market(auction([0]), BUDGET, tables=tables)
        terms = method.select(here)
        seen = {address(0): Seen(True, score=1)} if round_ < 30 else {}
        tables = dict(method.learn(here, terms, seen, {}))
        values.append(method.value(whole_tallies.read(tables, 2)[address(0)]))
    assert values[29] == (250_000 + 4 * PPM // 2) // 5
    assert values[33] < values[29] // 2 and 50_000 <= values[-1] < 51_000


def test_a_trial_pays_the_limit_to_those_who_are_available() -> None:
    method = mechanism("truthful_bandit@1", tries_a_round=2)
    assert method.select(market(auction([10, LIMIT]), BUDGET)) == {
        address(0): Terms(LIMIT),
        address(1): Terms(LIMIT),
    }
    assert method.select(market(auction([10, LIMIT + 1]), BUDGET)) == {address(0): Terms(LIMIT)}
