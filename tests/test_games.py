"""Values of cooperative games: by hand, by their axioms, and beside other ways to compute them."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from fedledger.aggregator.games.completion import completed
from fedledger.aggregator.games.correlated_agreement import agreements
from fedledger.aggregator.games.game import Game, Steps, members, value_of, wanted
from fedledger.aggregator.games.hyperbolic import ONE, tanh
from fedledger.aggregator.games.least_core import least_core
from fedledger.aggregator.games.sampling import Walk, batches, cycles, random_orders, walked
from fedledger.aggregator.games.semivalues import banzhaf, shapley
from fedledger.aggregator.games.simplex import Column, Prices, maximise
from fedledger.protocol.arithmetic.random_streams import Stream
from support.examples import examples

MILLION = 1_000_000
SIZES = (8, 12, 6, 14, 8, 9, 13, 10, 10, 10)
"""Of the airport game: so many players with costs of 1 to 10 each."""
AIRPORT = (
    *(0.01, 0.020869565, 0.033369565, 0.046883079, 0.063549745),
    *(0.082780515, 0.106036329, 0.139369662, 0.189369662, 0.289369662),
)
WHOLE = Walk()
METHODS: dict[str, Callable[[int, Game], Steps]] = {"shapley": shapley, "banzhaf": banzhaf, "least_core": least_core}


def stream(seed: int = 0) -> Stream:
    return Stream(seed.to_bytes(32, "big"))


def guided(players: int, value: Game, walk: Walk = WHOLE, count: int = 1 << 20, seed: int = 0) -> Steps:
    return walked(players, value, cycles(players, count, stream(seed)), walk)


def drawn(players: int, value: Game, walk: Walk = WHOLE, count: int = 1 << 20, seed: int = 0) -> Steps:
    return walked(players, value, batches(random_orders(players, count, stream(seed)), 7), walk)


def games(least: int = 1, most: int = 5) -> st.SearchStrategy[tuple[int, list[int]]]:
    """Games of some players with any worths; that of nobody need not be 0."""
    worths = st.integers(-MILLION, MILLION)
    return st.integers(least, most).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(worths, min_size=1 << n, max_size=1 << n))
    )


def random_game(players: int, seed: int) -> list[int]:
    """A game with diminishing returns: coverage of weighted items, 0 to a million, of which each player has some."""
    rng = random.Random(seed)
    items = [rng.random() ** 2 for _ in range(40)]
    has = [{j for j in range(40) if rng.random() < 0.05 + 0.25 * i / players} | {i} for i in range(players)]
    worths = [sum(items[j] for j in set[int]().union(*(has[i] for i in members(m)))) for m in range(1 << players)]
    return [round(MILLION * worth / worths[-1]) for worth in worths]


def over_orders(players: int, value: Game) -> list[Fraction]:
    """Shapley values as they are defined, from all orders."""
    totals, orders = [0] * players, list(itertools.permutations(range(players)))
    for order in orders:
        mask = 0
        for i in order:
            totals[i] += value(mask | 1 << i) - value(mask)
            mask |= 1 << i
    return [Fraction(total, len(orders)) for total in totals]


# -- by hand -----------------------------------------------------------------------------------------------------


def duplicates(mask: int) -> int:
    """v = 1[0 or 1 in S] + ½ · [2 in S], times two."""
    return 2 * (mask & 3 > 0) + (mask >> 2 & 1)


@pytest.mark.parametrize("method", [*METHODS.values(), guided, drawn])
def test_two_that_say_the_same_share_what_one_would_get(method: Callable[[int, Game], Steps]) -> None:
    assert list(value_of(method(3, duplicates)).values) == [1, 1, 1]


def test_banzhaf_is_not_shapley() -> None:
    """Of three, the first wins with one other: (2/3, 1/6, 1/6) beside (3/4, 1/4, 1/4), which adds up to 5/4."""
    game = [0, 0, 0, 12, 0, 12, 0, 12].__getitem__
    assert list(value_of(shapley(3, game)).values) == [8, 2, 2]
    assert list(value_of(banzhaf(3, game)).values) == [9, 3, 3]
    # So a federated value that weighs all coalitions alike does not add up to what the round gains.
    assert list(value_of(drawn(3, game)).values) == [8, 2, 2]


def airport(mask: int) -> int:
    """The largest cost of 100 players; the last ones cost most."""
    return COSTS[mask.bit_length()]


COSTS = [0, *itertools.chain.from_iterable([cost] * size for cost, size in enumerate(SIZES, start=1))]


def test_the_airport_game() -> None:
    """Whoever costs k pays its part of each of the first k steps, which is shared by all who need it (Littlechild)."""
    exact = list(itertools.accumulate(Fraction(1, sum(SIZES[k:])) for k in range(len(SIZES))))
    assert [float(value) for value in exact] == pytest.approx(AIRPORT, abs=1e-9)
    found = value_of(walked(100, lambda m: MILLION * airport(m), cycles(100, 40, stream()), Walk()))
    assert found.errors is not None and sum(found.values) == 10 * MILLION
    off = [abs(found.values[i] - MILLION * exact[COSTS[i + 1] - 1]) / max(1, found.errors[i]) for i in range(100)]
    assert sum(o <= 2 for o in off) >= 90 and max(off) < 5


def test_a_small_airport_game_is_exact() -> None:
    """Costs 1, 2, 2, 4: a quarter each of the first step, a third of the second, and the last alone two more."""
    game = lambda m: 12 * (0, 1, 2, 2, 4)[m.bit_length()]  # noqa: E731
    expected = [3, 3 + 4, 3 + 4, 3 + 4 + 24]
    for method in (shapley, guided, drawn):
        assert list(value_of(method(4, game)).values) == expected


@pytest.mark.parametrize(("estate", "shares"), [(100, (100, 100, 100)), (200, (150, 225, 225)), (300, (150, 300, 450))])
def test_the_nucleolus_divides_as_the_talmud(estate: int, shares: Sequence[int]) -> None:
    """Claims of 100, 200 and 300 (Aumann and Maschler 1985), times three."""
    claims = (100, 200, 300)
    game = lambda m: 3 * max(0, estate - sum(c for i, c in enumerate(claims) if not m >> i & 1))  # noqa: E731
    assert list(value_of(least_core(3, game)).values) == list(shares)


def test_the_nucleolus_gives_nothing_to_whom_nobody_needs() -> None:
    """A pair of gloves: the one left glove is worth all beside two right ones."""
    game = lambda m: int(m & 1 and m & 6 > 0)  # noqa: E731
    assert list(value_of(least_core(3, game)).values) == [1, 0, 0]


# -- axioms ------------------------------------------------------------------------------------------------------


@given(games())
@examples(60)
def test_shapley_values_are_the_mean_over_all_orders(game: tuple[int, list[int]]) -> None:
    n, worths = game
    expected = over_orders(n, worths.__getitem__)
    for method in (shapley, guided, drawn):
        found = value_of(method(n, worths.__getitem__))
        assert list(found.values) == expected and sum(found.values) == worths[-1] - worths[0]
    assert value_of(drawn(n, worths.__getitem__)).errors == [0] * n


@given(games(least=2), st.data())
@examples(60)
@pytest.mark.parametrize("name", METHODS)
def test_who_adds_the_same_gets_the_same(name: str, game: tuple[int, list[int]], data: st.DataObject) -> None:
    n, worths = game
    i, j = data.draw(st.permutations(range(n)))[:2]

    def value(mask: int) -> int:
        """Make the game the same for both."""
        swapped = mask & ~(1 << i | 1 << j) | (mask >> i & 1) << j | (mask >> j & 1) << i
        return worths[mask] + worths[swapped]

    found = value_of(METHODS[name](n, value)).values
    assert found[i] == found[j]


@given(games(), st.integers(-MILLION, MILLION))
@examples(60)
@pytest.mark.parametrize("name", ["shapley", "banzhaf"])
def test_who_adds_the_same_to_all_gets_that(name: str, game: tuple[int, list[int]], alone: int) -> None:
    n, worths = game
    rest = (1 << n) - 1
    found = value_of(METHODS[name](n + 1, lambda m: worths[m & rest] + alone * (m >> n))).values
    assert found[n] == alone
    assert list(found[:n]) == list(value_of(METHODS[name](n, worths.__getitem__)).values)


@given(games(least=3, most=4), st.integers(0, 1000), st.data())
@examples(60)
@pytest.mark.parametrize("name", ["shapley", "banzhaf"])
def test_values_of_two_games_add_up(name: str, game: tuple[int, list[int]], factor: int, data: st.DataObject) -> None:
    n, worths = game
    others = data.draw(st.lists(st.integers(-MILLION, MILLION), min_size=1 << n, max_size=1 << n))
    both = value_of(METHODS[name](n, lambda m: worths[m] + factor * others[m])).values
    one, other = (value_of(METHODS[name](n, w.__getitem__)).values for w in (worths, others))
    assert list(both) == [a + factor * b for a, b in zip(one, other, strict=True)]


@given(games())
@examples(60)
def test_banzhaf_values_are_the_mean_over_all_coalitions(game: tuple[int, list[int]]) -> None:
    n, w = game
    gains = [[w[m | 1 << i] - w[m] for m in range(1 << n) if not m >> i & 1] for i in range(n)]
    expected = [Fraction(sum(gained), len(gained)) for gained in gains]
    assert list(value_of(banzhaf(n, w.__getitem__)).values) == expected


# -- the least core ------------------------------------------------------------------------------------------------


@given(games(least=2, most=5))
@examples(60)
def test_the_nucleolus_is_in_the_least_core(game: tuple[int, list[int]]) -> None:
    """Its largest complaint is what a solver in doubles finds to be the least."""
    n, worths = game
    shares = value_of(least_core(n, worths.__getitem__)).values
    assert sum(shares) == worths[-1] - worths[0]
    proper = range(1, (1 << n) - 1)
    largest = max(worths[m] - worths[0] - sum(shares[i] for i in members(m)) for m in proper)
    bits = np.array([[m >> i & 1 for i in range(n)] for m in proper], float)
    solved = linprog(
        [0] * n + [1],
        A_ub=np.hstack([-bits, -np.ones((len(bits), 1))]),
        b_ub=[worths[0] - worths[m] for m in proper],
        A_eq=[[1] * n + [0]],
        b_eq=[worths[-1] - worths[0]],
        bounds=[(None, None)] * (n + 1),
    )
    assert solved.success and float(largest) == pytest.approx(solved.fun, abs=1e-3)


@given(games(least=2, most=4))
@examples(60)
def test_complaints_of_the_nucleolus_are_balanced(game: tuple[int, list[int]]) -> None:
    """Kohlberg 1971: whatever the level, no change of shares helps a coalition at or above it and hurts none there."""
    n, worths = game
    shares = value_of(least_core(n, worths.__getitem__)).values
    proper = list(range(1, (1 << n) - 1))
    complaint = {m: worths[m] - worths[0] - sum(shares[i] for i in members(m)) for m in proper}
    for level in sorted(set(complaint.values())):
        above = [m for m in proper if complaint[m] >= level]
        bits = np.array([[m >> i & 1 for i in range(n)] for m in above], float)
        best = linprog(-bits.sum(axis=0), A_ub=-bits, b_ub=[0] * len(above), A_eq=[[1] * n], b_eq=[0], bounds=(-1, 1))
        assert best.success and best.fun == pytest.approx(0, abs=1e-9)


def test_the_simplex_method_ends_where_steps_gain_nothing() -> None:
    """Beale's example cycles by the usual rule: its maximum is 1/20. Slack variables come last."""
    rows = [[25, -6000, -4, 900], [50, -9000, -2, 300], [0, 0, 1, 0]]
    worth = [Fraction(3, 4), Fraction(-150), Fraction(1, 50), Fraction(-6)]
    columns = [Column(j, j, [row[j] for row in rows], worth[j]) for j in range(4)]
    columns += [Column(4 + i, 4 + i, [int(k == i) for k in range(3)], Fraction()) for i in range(3)]

    def entering(prices: Prices, first: bool) -> Column | None:
        def gain(column: Column) -> tuple[Fraction, Fraction]:
            large, small = (
                sum((y * a for y, a in zip(side, column.coefficients, strict=True)), Fraction())
                for side in (prices.large, prices.small)
            )
            return -large, column.objective - small

        able = [column for column in columns if gain(column) > (0, 0)]
        return (able[0] if first else max(able, key=gain)) if able else None

    prices, found = maximise([0, 0, 1], entering)
    assert sum(worth[j] * level for j, level in found.items() if isinstance(j, int) and j < 4) == Fraction(1, 20)
    assert prices[2] == Fraction(1, 20)


def test_a_program_without_solution_or_maximum_is_an_error() -> None:
    free = Column(0, 0, [0], Fraction(1))
    with pytest.raises(ArithmeticError, match="maximum"):
        maximise([1], lambda prices, first: free)
    with pytest.raises(ArithmeticError, match="solution"):
        maximise([1], lambda prices, first: None)


# -- pyDVL ---------------------------------------------------------------------------------------------------------

PYDVL = json.loads((Path(__file__).parent / "vectors" / "pydvl.json").read_text())


@pytest.mark.parametrize("told", PYDVL, ids=[f"{len(told['shapley'])} players" for told in PYDVL])
def test_pydvl_computes_the_same(told: dict[str, Any]) -> None:
    worths, n = told["worths"], len(told["shapley"])
    accuracy = 1e-9 * MILLION
    for method in (shapley, banzhaf):
        found = value_of(method(n, worths.__getitem__)).values
        assert [float(value) for value in found] == pytest.approx(told[method.__name__], rel=0, abs=accuracy)
    missed = [worths[-1] - worths[len(worths) - 1 - (1 << i)] for i in range(n)]
    assert missed == pytest.approx(told["leave_one_out"], rel=0, abs=accuracy)
    if n > 1:
        # Its solver is as exact as this, and its point of the least core is another one.
        shares = value_of(least_core(n, worths.__getitem__)).values
        subsidy = max(worths[m] - sum(shares[i] for i in members(m)) for m in range(1, (1 << n) - 1))
        assert float(subsidy) == pytest.approx(told["subsidy"], rel=1e-5, abs=1)


# -- samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_gtg_is_near_the_exact_values_of_six(seed: int) -> None:
    worths = random_game(6, seed)
    exact = value_of(shapley(6, worths.__getitem__)).values
    walk = Walk(within=Fraction(1, 100), between=Fraction(1000), settled=Fraction(1, 1000), evaluations=100)
    found = value_of(guided(6, worths.__getitem__, walk, 120, seed))
    assert max(abs(a - b) for a, b in zip(found.values, exact, strict=True)) <= 2e-3 * MILLION


@pytest.mark.parametrize("seed", range(16))
def test_gtg_takes_a_tenth_of_the_evaluations_of_ten(seed: int) -> None:
    worths = random_game(10, seed)
    exact = value_of(shapley(10, worths.__getitem__)).values
    walk = Walk(within=Fraction(1, 100), between=Fraction(1000), settled=Fraction(1, 1000), evaluations=100)
    found = value_of(guided(10, worths.__getitem__, walk, 120, seed))
    assert found.evaluations <= 102 and 10 * found.evaluations <= (1 << 10) - 1
    assert np.corrcoef([float(v) for v in found.values], [float(v) for v in exact])[0, 1] >= 0.95


def test_standard_errors_say_how_far_estimates_are_off() -> None:
    """About two thirds of 1,600 estimates are within one standard error, and 95 % within two."""
    worths = random_game(8, 3)
    exact = value_of(shapley(8, worths.__getitem__)).values
    off = []
    for seed in range(200):
        found = value_of(drawn(8, worths.__getitem__, count=21, seed=seed))
        assert found.errors is not None
        off += [float(abs(a - b)) / e for a, b, e in zip(found.values, exact, found.errors, strict=True)]
    assert 0.58 < np.mean(np.array(off) <= 1) < 0.78 and np.mean(np.array(off) <= 2) > 0.9
    assert np.mean(np.array(off)) > 0.5


@given(games(least=2, most=7), st.integers(0, 20), st.integers(1, 40))
@examples(60)
def test_every_sample_of_whole_orders_adds_up(game: tuple[int, list[int]], seed: int, count: int) -> None:
    """Each order starts again from nobody, so its gains add up to what all add (not so in FedSV's algorithm 2)."""
    n, worths = game
    for method in (guided, drawn):
        found = value_of(method(n, worths.__getitem__, Walk(), count, seed))
        assert sum(found.values) == worths[-1] - worths[0]


@given(games(least=2, most=6), st.integers(2, 40), st.floats(0, 0.5))
@examples(60)
def test_a_walk_looks_at_no_more_than_it_may(game: tuple[int, list[int]], most: int, within: float) -> None:
    """And asks for each coalition once, and for the same when it is begun again with what is known."""
    n, worths = game
    walk = Walk(within=Fraction(within), evaluations=most)
    known: dict[int, int] = {0: worths[0]}
    while asked := wanted(guided(n, known.__getitem__, walk), known):
        assert not known.keys() & set(asked)
        known |= {mask: worths[mask] for mask in asked}
    assert len(known) - 1 <= most
    found = value_of(guided(n, known.__getitem__, walk))
    assert found.evaluations == len(known) - 1 or worths[0] == worths[-1]
    assert found == value_of(guided(n, worths.__getitem__, walk))


def test_a_round_that_gains_little_is_not_looked_at() -> None:
    worths = random_game(5, 1)
    found = value_of(guided(5, worths.__getitem__, Walk(between=Fraction(MILLION + 1))))
    assert list(found.values) == [0] * 5 and found.evaluations == 1
    assert any(value_of(guided(5, worths.__getitem__, Walk(between=Fraction(MILLION)))).values)


def test_what_is_left_when_little_is_left_adds_nothing() -> None:
    """Ten, nine, and one of twenty: after the first two less than a tenth is left."""
    game = lambda m: 10 * (m & 1) + 9 * (m >> 1 & 1) + (m >> 2 & 1)  # noqa: E731
    found = value_of(drawn(3, game, Walk(within=Fraction(1, 10))))
    assert list(found.values) == [10, 9, Fraction(4, 6)]


def test_cycles_have_everybody_everywhere_and_all_of_them_are_all_orders() -> None:
    for cycle in cycles(6, 5, stream()):
        assert [sorted(column) for column in zip(*cycle, strict=True)] == [sorted(2 * list(range(6)))] * 6
        assert all(sorted(order) == list(range(6)) for order in cycle)
    every = [tuple(order) for cycle in cycles(5, 1000, stream()) for order in cycle]
    assert len(every) == math.factorial(5) == len(set(every))
    drawn_orders = [tuple(order) for order in random_orders(5, 1000, stream())]
    assert sorted(drawn_orders) == sorted(every)
    assert len(set(map(tuple, random_orders(20, 50, stream())))) == 50


# -- Correlated Agreement, tanh, completion --------------------------------------------------------------------------


def reports(joint: Sequence[Sequence[int]]) -> np.ndarray:
    """What two report of a hundred things, so many of which each pair of signals is."""
    pairs = [(a, b) for a, row in enumerate(joint) for b, times in enumerate(row) for _ in range(times)]
    return np.array(pairs, np.int64).T


@pytest.mark.parametrize(
    ("first", "second", "paid"),
    [([0, 1], [0, 1], 2500), ([0, 0], [0, 1], 0), ([1, 0], [0, 1], -2500), ([1, 0], [1, 0], 2500)],
    ids=["truthful", "constant", "one flips", "both flip"],
)
def test_correlated_agreement(first: list[int], second: list[int], paid: int) -> None:
    told = reports([[40, 10], [15, 35]])
    told = np.stack([np.array(first)[told[0]], np.array(second)[told[1]]])
    assert agreements(told, (0, 1))[0][1] == agreements(told, (0, 1))[1][0] == paid


@given(st.fractions(0, 40))
@examples(200)
def test_tanh(x: Fraction) -> None:
    assert tanh(x) / ONE == pytest.approx(math.tanh(x), abs=2**-29) and tanh(x) <= ONE


@given(st.fractions(0, 20), st.fractions(0, 20))
@examples(100)
def test_tanh_rises(x: Fraction, more: Fraction) -> None:
    assert tanh(x) <= tanh(x + more)


def test_a_table_of_low_rank_is_completed() -> None:
    rng = np.random.default_rng(2)
    whole = np.rint(1e6 * (1 + rng.random((8, 1))) @ rng.random((1, 64))).astype(np.int64)
    observed = rng.random(whole.shape) < 0.6
    observed[0], observed[:, 0] = True, True
    found = completed(np.where(observed, whole, 77), observed, rank=1, penalty=1e-4, steps=20)
    assert (found[observed] == whole[observed]).all()
    assert np.abs(found - whole).max() < 0.01 * np.abs(whole).max()
    assert (completed(whole, np.ones_like(observed), 2, 1e-3, 20) == whole).all()
    assert not completed(whole, np.zeros_like(observed), 2, 1e-3, 20).any()


def test_completion_does_not_look_at_what_was_not_observed() -> None:
    rng = np.random.default_rng(3)
    whole, observed = rng.integers(-MILLION, MILLION, (5, 16)), rng.random((5, 16)) < 0.5
    one, other = (completed(np.where(observed, whole, fill), observed, 3, 0.01, 10) for fill in (0, MILLION**2))
    assert (one == other).all()
