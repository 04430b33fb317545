"""Truthful mechanisms: nobody gains by a false bid, nobody loses by a true one, to the last unit."""

from __future__ import annotations

from fractions import Fraction
from math import inf
from statistics import median
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.mechanisms.base import Market, Mechanism, Seen
from fedledger.aggregator.mechanisms.proportional_share import ProportionalShare
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.records.reputation import PPM
from support.examples import examples
from support.markets import asked, auction, delivered, market, mechanism, played

AUCTIONS = pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("vcg@1", {"winners": 2}),
        ("vcg@1", {"winners": 2, "reserve": 9}),
        ("proportional_share@1", {}),
        ("proportional_share@1", {"least_reputation": 3}),
        ("truthful_bandit@1", {"tries_a_round": 2, "every": 2}),
    ],
    ids=str,
)
costs_of = st.lists(st.integers(0, 30), min_size=1, max_size=6)
values_of = st.lists(st.one_of(st.integers(0, 6), st.integers(1, PPM)), min_size=6, max_size=6)


def paid(method: Mechanism, bids: list[int], values: list[int], budget: int, **changed: Any) -> dict[int, int]:
    _, pays = played(method, market(auction(bids, values[: len(bids)]), budget, **changed))
    return {int(owner, 16): units for owner, units in pays.items()}


def known(method: Mechanism, values: list[int], rounds: int) -> dict[str, Any]:
    """Tables in which participants have the qualities of some values, after so many rounds."""
    tables: dict[str, Any] = {}
    if not hasattr(method, "learn"):
        return tables
    for _ in range(rounds):
        here = market(auction([0] * len(values)), 1000, tables=tables)
        terms = asked(method, here)
        seen = {owner: Seen(True, PPM, values[int(owner, 16)]) for owner in terms}
        tables = dict(method.learn(here, terms, seen, {}))  # type: ignore[attr-defined]
    return tables


@AUCTIONS
@given(costs_of, values_of, st.integers(0, 60), st.integers(0, 5), st.integers(0, 9))
@examples(150)
def test_truth_is_best_and_never_loses(
    key: str, changed: dict[str, Any], costs: list[int], values: list[int], budget: int, rounds: int, lots: int
) -> None:
    method = mechanism(key, **changed)
    context = {"tables": known(method, values, rounds), "draws": lambda: stream(bytes(32), "lots", lots)}

    def utility(player: int, bid: int) -> int:
        bids = [*costs[:player], bid, *costs[player + 1 :]]
        pays = paid(method, bids, values, budget, **context)
        return pays[player] - costs[player] if player in pays else 0

    for player, cost in enumerate(costs):
        truth = utility(player, cost)
        assert truth >= 0
        assert all(utility(player, bid) <= truth for bid in range(32))


@AUCTIONS
@given(costs_of, values_of, st.integers(0, 60), st.integers(0, 5))
@examples(100)
def test_a_lower_bid_still_wins_and_is_paid_alike(
    key: str, changed: dict[str, Any], costs: list[int], values: list[int], budget: int, rounds: int
) -> None:
    method = mechanism(key, **changed)
    tables = known(method, values, rounds)
    before = paid(method, costs, values, budget, tables=tables)
    for player in before:
        for bid in range(costs[player]):
            bids = [*costs[:player], bid, *costs[player + 1 :]]
            after = paid(method, bids, values, budget, tables=tables)
            assert after[player] == before[player]


@given(costs_of, values_of, st.integers(0, 60), st.fractions(0, 30))
@examples(150)
def test_who_has_a_cost_between_two_units_bids_the_upper_one(
    costs: list[int], values: list[int], budget: int, cost: Fraction
) -> None:
    for method in (mechanism("vcg@1", winners=2), mechanism("proportional_share@1")):
        utilities = []
        for bid in range(32):
            pays = paid(method, [bid, *costs[1:]], values, budget)
            utilities.append(pays[0] - cost if 0 in pays else Fraction(0))
        assert utilities[-(-cost.numerator // cost.denominator)] == max(utilities)


def test_the_reference_s_lowest_bids_win_and_get_the_next() -> None:
    pays = paid(mechanism("vcg@1", winners=2), [30, 10, 40, 15, 90], [PPM] * 5, 1000)
    assert pays == {1: 30, 3: 30}
    # 25 each is what a budget of 50 has, and bids above are no offers.
    assert paid(mechanism("vcg@1", winners=2), [30, 10, 40, 15, 90], [PPM] * 5, 50) == {1: 25, 3: 25}
    assert paid(mechanism("vcg@1", winners=2), [30, 10, 40, 15, 90], [PPM] * 5, 24) == {1: 12}


def reference(bids: list[int], values: list[int], budget: int) -> dict[int, float]:
    """Proportional shares in floats, as the papers have them; for bids over values that all differ."""
    order = sorted((i for i, v in enumerate(values) if v), key=lambda i: bids[i] / values[i])
    won: list[int] = []
    for i in order:
        total = sum(values[j] for j in won) + values[i]
        if bids[i] > values[i] * budget / total:
            break
        won.append(i)
    total = sum(values[i] for i in won)
    lost = next((bids[i] / values[i] for i in order[len(won) :]), inf)
    return {i: values[i] * min(budget / total, lost) for i in won}


@given(costs_of, values_of, st.integers(0, 60))
@examples(300)
def test_proportional_shares_are_the_papers_rounded_down(costs: list[int], values: list[int], budget: int) -> None:
    values = values[: len(costs)]
    ratios = [Fraction(b, v) for b, v in zip(costs, values, strict=True) if v]
    if len(set(ratios)) < len(ratios):
        return
    exact = reference(costs, values, budget)
    found = paid(mechanism("proportional_share@1"), costs, values, budget)
    assert set(found) == set(exact)
    assert all(exact[i] - 1 - 1e-6 <= units <= exact[i] + 1e-6 for i, units in found.items())


def test_ratios_that_hardly_differ_are_told_apart() -> None:
    # 999998 / 999999 and 999999 / 1000000 differ by 10^-12.
    bids, values = [999_999, 999_998], [PPM, PPM - 1]
    assert Fraction(bids[1], values[1]) < Fraction(bids[0], values[0])
    for lots in range(4):
        draws = lambda n=lots: stream(bytes(32), "lots", n)  # noqa: E731
        assert paid(mechanism("proportional_share@1"), bids, values, 1_500_000, draws=draws) == {1: 999_998}


def test_a_lower_bid_is_critical_by_hand() -> None:
    # 4/2 and 5/2 win of 12 (5 ≤ 2·12/4), 9/2 does not (9 > 2·12/6): both get 2·min(12/4, 9/2) = 6.
    assert paid(mechanism("proportional_share@1"), [4, 5, 9], [2, 2, 2], 12) == {0: 6, 1: 6}
    # With a third bid of 5 the two that win are drawn of three, or of two: 2·min(12/4, 5/2) = 5.
    assert sorted(paid(mechanism("proportional_share@1"), [4, 5, 5], [2, 2, 2], 12).values()) == [5, 5]


def test_nobody_wins_without_reputation_and_bids_of_nothing_share_the_budget() -> None:
    assert paid(mechanism("proportional_share@1"), [0, 0, 0], [1, 1, 0], 9) == {0: 4, 1: 4}
    assert paid(mechanism("proportional_share@1"), [0, 0], [0, 0], 9) == {}


def test_the_auction_of_fifty_is_quick_enough_for_an_auditor() -> None:
    method = ProportionalShare()
    draw = stream(bytes(32), "fifty")
    markets: list[Market] = []
    for _ in range(200):
        bids, values = [draw.below(1000) for _ in range(50)], [1 + draw.below(PPM) for _ in range(50)]
        markets.append(market(auction(bids, values), 10_000))
    times = []
    for here in markets:
        started = perf_counter()
        terms = method.select(here)
        seen = delivered(terms)
        begun = perf_counter()
        method.pay(here, terms, seen)
        times.append(perf_counter() - begun + begun - started)
    assert median(times) < 500e-6
