"""Kang's menu: its published figures, its properties on random contracts, and independent ways to find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression, minimize, minimize_scalar

from fedledger.platform.incentives.theory.contract_theory import (
    Contract,
    Item,
    Menu,
    best_misreport,
    best_refusal,
    even_accuracies,
    integer_menu,
    is_incentive_compatible,
    is_individually_rational,
    optimal_menu,
    relaxed_menu,
    tight_menu,
)
from fedledger.platform.incentives.theory.ironing import pool_adjacent_violators
from fedledger.protocol.errors import ConfigError
from support.examples import examples

PAPER = Contract()


@st.composite
def contracts(draw: st.DrawFn, most: int = 8) -> Contract:
    """Contracts with types of any spacing and probability, with a budget that may bind."""
    steps = draw(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=most + 1))
    bounds = np.cumsum(steps) / sum(steps)
    weights = np.array(draw(st.lists(st.floats(0.01, 1), min_size=len(steps) - 1, max_size=len(steps) - 1)))
    free = Contract(
        accuracies=tuple((0.02 + 0.96 * bounds[:-1]).tolist()),
        shares=tuple((weights / weights.sum()).tolist()),
        workers=draw(st.integers(1, 1000)),
        cycles=draw(st.floats(0.5, 50)),
        capacitance=draw(st.floats(0.1, 10)),
        worth=draw(st.floats(1, 1e4)),
        reward_weight=draw(st.floats(0.1, 10)),
        energy_price=draw(st.floats(0.1, 10)),
        budget=None,
    )
    part = draw(st.one_of(st.none(), st.floats(0.05, 1.2)))
    if part is None:
        return free
    least = free.work[0] / free.time_left
    lowest = free.energy_price * (free.upload_energy + free.iterations[0] * free.energy(least))
    return replace(
        free, budget=free.workers * lowest + part * (optimal_menu(free).expected_pay - free.workers * lowest)
    )


def test_published_figures() -> None:
    menu = optimal_menu(PAPER)
    assert round(menu.profit, 3) == 477_344.747 and round(menu.multiplier, 3) == 0.867
    assert menu.expected_pay == pytest.approx(1e4, abs=1e-6) and menu.expected_pay <= 1e4
    free = optimal_menu(replace(PAPER, budget=None))
    assert round(free.profit, 3) == 478_540.733 and free.multiplier == 0


def test_menus_that_are_to_be_rejected() -> None:
    relaxed, tight = relaxed_menu(PAPER), tight_menu(PAPER)
    assert round(best_misreport(relaxed).gain, 2) == 5.41 and not is_incentive_compatible(relaxed)
    assert best_misreport(relaxed).worker_type == 9 and best_misreport(relaxed).item == 0
    assert is_individually_rational(relaxed) and is_individually_rational(tight)
    assert best_misreport(tight).gain > 50 and not is_incentive_compatible(tight)
    assert all(abs(PAPER.worker_utility(place, item)) < 1e-9 for place, item in enumerate(tight.items))
    best = optimal_menu(PAPER)
    assert is_incentive_compatible(best) and is_individually_rational(best)
    poor = Menu(PAPER, tuple(replace(item, reward=item.reward - 1) for item in best.items), best.multiplier)
    assert not is_individually_rational(poor) and best_refusal(poor).gain == pytest.approx(1)


@examples(100)
@given(contracts())
def test_the_best_menu_is_rational_compatible_ascending_and_within_its_budget(contract: Contract) -> None:
    menu = optimal_menu(contract)
    assert is_individually_rational(menu) and is_incentive_compatible(menu)
    frequencies = [item.frequency for item in menu.items]
    rewards = [item.reward for item in menu.items]
    assert frequencies == sorted(frequencies)
    assert all(low <= high * (1 + 1e-12) for low, high in pairwise(rewards))
    assert contract.budget is None or menu.expected_pay <= contract.budget
    if menu.multiplier > 0:
        assert contract.budget is not None and menu.expected_pay == pytest.approx(contract.budget, rel=1e-6)
    # Payments by the closed form.
    energies = [contract.energy(each) for each in frequencies]
    weighed = sum(g * energy for g, energy in zip(contract.pay_weights(), energies, strict=True))
    closed = contract.workers * contract.energy_price * (contract.upload_energy + weighed)
    assert menu.expected_pay == pytest.approx(closed, rel=1e-9)


@examples(100)
@given(contracts())
def test_the_relaxed_menu_is_compatible_just_where_it_ascends(contract: Contract) -> None:
    menu = relaxed_menu(contract)
    frequencies = [item.frequency for item in menu.items]
    drops = [low - high for low, high in pairwise(frequencies)]
    # Where it falls by a rounding, either may be said.
    assume(all(drop <= 0 or drop > 1e-4 * max(frequencies) for drop in drops))
    assert is_incentive_compatible(menu) == (frequencies == sorted(frequencies))
    ironed = optimal_menu(contract).profit
    assert menu.profit >= ironed - 1e-9 * abs(ironed) - 1e-6


@examples(40)
@given(contracts(5))
def test_a_general_optimiser_finds_no_better_menu(contract: Contract) -> None:
    menu = optimal_menu(contract)
    own = np.array([item.frequency for item in menu.items])
    weights, shares = np.array(contract.pay_weights()), np.array(contract.probabilities)
    work, unit = np.array(contract.work), contract.energy(1.0)

    def pay(f: np.ndarray) -> float:
        return float(contract.workers * contract.energy_price * (contract.upload_energy + unit * (weights @ f**2)))

    def profit(f: np.ndarray) -> float:
        left = contract.time_left - work / f
        if (left <= 0).any():
            return -1e18
        return float(contract.workers * contract.worth * (shares @ np.log(left)) - contract.reward_weight * pay(f))

    assert profit(own) == pytest.approx(menu.profit, rel=1e-9)
    constraints = [{"type": "ineq", "fun": np.diff}] if len(own) > 1 else []
    if contract.budget is not None:
        limit = contract.budget
        constraints.append({"type": "ineq", "fun": lambda f: np.atleast_1d(1 - pay(f) / limit)})
    scale, least = max(1.0, abs(menu.profit)), float(work[0] / contract.time_left)
    found = minimize(
        lambda f: -profit(f) / scale,
        np.full(len(own), own[0]),
        method="SLSQP",
        bounds=[(least * (1 + 1e-8), 1e6)] * len(own),
        constraints=constraints,
        options={"maxiter": 500, "ftol": 1e-14},
    )
    excess = 0.0 if contract.budget is None else pay(found.x) / contract.budget - 1
    assume(found.success and max(excess, *(-np.diff(found.x)), 0.0) < 1e-7)
    assert menu.profit >= -found.fun * scale - 1e-6 * scale
    assert menu.profit == pytest.approx(-found.fun * scale, abs=1e-3 * scale)


def partitions(count: int) -> list[list[tuple[int, int]]]:
    """All ways to cut a row into blocks of neighbours."""
    cuts = [[place for place in range(1, count) if chosen >> place & 1] for chosen in range(0, 2**count, 2)]
    return [[*pairwise([0, *each, count])] for each in cuts]


@examples(60)
@given(contracts(6))
def test_ironing_finds_the_best_of_all_ways_to_pool(contract: Contract) -> None:
    contract = replace(contract, budget=None)
    weights, unit = contract.pay_weights(), contract.reward_weight * contract.energy_price * contract.energy(1.0)

    def value(first: int, end: int, f: float) -> float:
        return sum(
            contract.probabilities[k] * contract.worth * np.log(contract.time_left - contract.work[k] / f)
            - unit * weights[k] * f * f
            for k in range(first, end)
        )

    def best(first: int, end: int) -> tuple[float, float]:
        low = contract.work[first] / contract.time_left
        found = minimize_scalar(
            lambda f: -value(first, end, f), bounds=(low * (1 + 1e-9), 1e3), options={"xatol": 1e-10}, method="bounded"
        )
        return float(found.x), float(-found.fun)

    tried = []
    for blocks in partitions(len(contract.accuracies)):
        optima = [best(*block) for block in blocks]
        if all(low <= high for (low, _), (high, _) in pairwise(optima)):
            tried.append(sum(gained for _, gained in optima))
    menu = optimal_menu(contract)
    ours = sum(value(place, place + 1, item.frequency) for place, item in enumerate(menu.items))
    assert ours == pytest.approx(max(tried), rel=1e-7, abs=1e-7)


def isotonic_by_hand(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Isotonic regression by its min-max formula."""
    count = len(values)

    def mean(first: int, end: int) -> float:
        return float(np.average(values[first:end], weights=weights[first:end]))

    return [
        max(min(mean(first, end) for end in range(place + 1, count + 1)) for first in range(place + 1))
        for place in range(count)
    ]


@examples(200)
@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(0.01, 10)), min_size=1, max_size=12))
def test_ironing_quadratic_objectives_is_isotonic_regression(rows: list[tuple[float, float]]) -> None:
    values, weights = [value for value, _ in rows], [weight for _, weight in rows]
    ironed = pool_adjacent_violators(
        len(rows), lambda first, end: float(np.average(values[first:end], weights=weights[first:end]))
    )
    assert ironed == pytest.approx(isotonic_by_hand(values, weights), abs=1e-9)
    assert ironed == pytest.approx(isotonic_regression(values, weights=weights).x.tolist(), abs=1e-9)


@examples(200)
@given(contracts(), st.integers(1, 10**7))
def test_whole_numbers_keep_every_constraint_to_the_unit(contract: Contract, scale: int) -> None:
    menu = optimal_menu(contract)
    items = integer_menu(menu, scale)
    unit = Fraction(contract.energy_price) * Fraction(contract.capacitance) * Fraction(contract.cycles)
    unit *= Fraction(contract.examples) / scale
    fixed = Fraction(contract.energy_price) * Fraction(contract.upload_energy) * scale

    def utility(count: float, item: tuple[int, int]) -> Fraction:
        return item[1] - unit * Fraction(count) * item[0] ** 2 - fixed

    for count, own in zip(contract.iterations, items, strict=True):
        assert utility(count, own) >= 0
        assert all(utility(count, own) >= utility(count, other) for other in items)
    distinct = list(dict.fromkeys(items))
    assert all(low[0] < high[0] and low[1] < high[1] for low, high in pairwise(distinct))
    assert utility(contract.iterations[0], items[0]) < 1


def test_a_fine_scale_comes_close_and_a_coarse_one_pools() -> None:
    menu = optimal_menu(PAPER)
    for (effort, pay), item in zip(integer_menu(menu, 10**9), menu.items, strict=True):
        assert effort / 1e9 == pytest.approx(item.frequency, abs=1e-8)
        assert pay / 1e9 == pytest.approx(item.reward, abs=1e-6)
    assert list(dict.fromkeys(integer_menu(menu, 1000))) == [(498, 99_830), (502, 99_970), (571, 101_205)]
    # Frequencies of nearly 0.5 round to 0; the least effort is 1.
    assert set(integer_menu(menu, 1)) == {(1, 342)}
    close = Contract(accuracies=(0.5, 0.5000001), budget=None)
    apart = Menu(close, (Item(0.5, 0.0), Item(0.501, 0.0)), 0.0)
    assert len(set(integer_menu(apart, 1000))) == 1


def test_one_type_gets_its_cost() -> None:
    menu = optimal_menu(replace(PAPER, accuracies=(0.5,), budget=None))
    assert menu.contract.worker_utility(0, menu.items[0]) == pytest.approx(0, abs=1e-9)
    assert best_misreport(menu).gain == 0 and is_incentive_compatible(menu)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"accuracies": (0.5, 0.4)}, "ascend"),
        ({"accuracies": ()}, "ascend"),
        ({"accuracies": (0.5, 1.0)}, "below 1"),
        ({"shares": (0.5, 0.5)}, "as many shares"),
        ({"shares": (0.2,) * 10}, "sum to 2"),
        ({"longest": 10.0}, "longest"),
        ({"worth": float("nan")}, "worth"),
        ({"workers": 0}, "workers"),
    ],
)
def test_wrong_parameters_are_told(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        replace(PAPER, **change)  # type: ignore[arg-type]


def test_what_cannot_be_had_is_told() -> None:
    with pytest.raises(ConfigError, match=r"slowest frequencies. Give more than 4395\.24"):
        optimal_menu(replace(PAPER, budget=2100.0))
    with pytest.raises(ConfigError, match="Iron them"):
        integer_menu(relaxed_menu(PAPER), 100)
    with pytest.raises(ConfigError, match="scale"):
        integer_menu(optimal_menu(PAPER), 0)
    with pytest.raises(ConfigError, match="types"):
        even_accuracies(0)
