"""The supported mean: exact, as its definition says, and never where only hostile updates want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.evidence.work import Work
from fedledger.aggregator.mixings.base import MIXINGS
from fedledger.aggregator.rules.aggregate import Outcome, Rows, aggregate
from fedledger.aggregator.rules.mean import Mean
from fedledger.aggregator.rules.supported_mean import PARTS, SupportedMean
from fedledger.protocol.arithmetic.exact import LIMIT, IntArray
from fedledger.protocol.methods.parameters import build
from support.examples import examples
from support.work_rounds import UNIT, a_round, honest, whole

AGREED = 1.0
SIZES = [(3, 1), (5, 2), (9, 2), (10, 3), (15, 4), (20, 9)]
"""Numbers of updates, and of hostile ones among them."""
seeds, sizes = st.integers(0, 2**32), st.sampled_from(SIZES)


def rule(n: int, f: int) -> SupportedMean:
    """The rule that tolerates f hostile updates of n."""
    return SupportedMean(hostile=min(0.4999, (f + 0.5) / n))


def in_agreement(rows: IntArray, agreement: float) -> StageContext:
    """A round whose updates agree so far, as its evidence says."""
    known = a_round(rows)
    return replace(known, work=replace(Work()(known)(known.accepted), agreement=agreement))


def run(
    method: SupportedMean,
    rows: IntArray,
    weights: Sequence[int] = (),
    agreement: float = AGREED,
    mix: int | None = None,
) -> Outcome:
    mixer = None if mix is None else build(MIXINGS, "nearest_neighbour_mixing@2", {"f": mix})
    given_ = Rows(rows, weights or [1] * len(rows))
    return aggregate(method, given_, UNIT, mixer, in_agreement(rows, agreement))


def rounded(value: Fraction) -> int:
    """The nearest whole number, halves to even."""
    return round(value)


def by_definition(
    rows: Sequence[Sequence[Fraction]], weights: Sequence[int], spare: int, strict: int
) -> list[Fraction]:
    result = []
    for column in zip(*rows, strict=True):
        ordered = sorted(column)
        low, high = min(Fraction(0), ordered[spare]), max(Fraction(0), ordered[len(ordered) - 1 - spare])
        cut = [min(max(value, low), high) for value in column]
        parts = [value + rounded((less - value) * strict / PARTS) for value, less in zip(column, cut, strict=True)]
        result.append(sum(w * value for w, value in zip(weights, parts, strict=True)) / sum(weights))
    return result


def exactly(rows: IntArray) -> list[list[Fraction]]:
    return [[Fraction(int(value)) for value in row] for row in rows]


def mixed_signs(seed: int, n: int, bits: int = 30) -> IntArray:
    most = 1 << bits
    return np.random.default_rng(seed).integers(-most, most, (n, 7), endpoint=True)


@examples(80)
@given(seeds, sizes, st.sampled_from([2, 30, 40]), st.floats(0, 0.3), st.booleans())
def test_is_what_its_definition_says(
    seed: int, size: tuple[int, int], bits: int, agreement: float, weighed: bool
) -> None:
    (n, f), rng = size, np.random.default_rng(seed)
    rows = mixed_signs(seed, n, bits)
    weights = rng.integers(1, 1 << 20, n, endpoint=True).tolist() if weighed else [1] * n
    outcome = run(rule(n, f), rows, weights, agreement)
    strict = outcome.diagnostics["strict"]
    assert isinstance(strict, int) and outcome.diagnostics["spare"] == f
    expected = by_definition(exactly(rows), weights, f, strict)
    assert outcome.delta.tolist() == [rounded(value) for value in expected]


def test_its_strictness_follows_agreement_and_is_whole_without_evidence() -> None:
    rows, method = mixed_signs(1, 9), rule(9, 2)
    strict = [run(method, rows, agreement=a).diagnostics["strict"] for a in np.linspace(0, 1, 41)]
    assert strict[0] == 0 and strict[-1] == PARTS and strict == sorted(strict)
    alone = aggregate(method, Rows(rows, [1] * 9), UNIT)
    assert alone.diagnostics["strict"] == PARTS
    assert alone.delta.tolist() == run(method, rows).delta.tolist()


@examples(60)
@given(seeds, sizes, st.sampled_from([1, 100, 1 << 10, LIMIT]), st.booleans())
def test_hostile_updates_move_no_coordinate_beyond_what_honest_ones_and_zero_span(
    seed: int, size: tuple[int, int], reach: int, together: bool
) -> None:
    (n, f), rng = size, np.random.default_rng(seed)
    rows = mixed_signs(seed, n, 20)
    far = rng.integers(-reach, reach, (1 if together else f, 7), endpoint=True)
    rows[rng.permutation(n)[:f]] = far
    is_honest = ~(rows[:, None] == far[None]).all(axis=2).any(axis=1)
    rest = np.vstack([rows[is_honest], np.zeros((1, 7), np.int64)])
    weights = rng.integers(1, 1 << 20, n).tolist()
    delta = run(rule(n, f), rows, weights).delta
    assert (rest.min(axis=0) <= delta).all() and (delta <= rest.max(axis=0)).all()


@pytest.mark.parametrize(("n", "f"), SIZES)
def test_what_only_hostile_updates_want_does_not_happen(n: int, f: int) -> None:
    """A backdoor on coordinates that no honest update moves, and one against the honest ones' direction."""
    rows = np.full((n, 4), 1000 * UNIT)
    rows[:, 0] = 0
    rows[:f] = LIMIT, -LIMIT, 1000 * UNIT, 0
    delta = run(rule(n, f), rows).delta
    assert delta[0] == 0 and delta[2] == 1000 * UNIT
    assert delta[1] == delta[3] == rounded(Fraction((n - f) * 1000 * UNIT, n))


@examples(40)
@given(seeds, sizes, st.floats(0, 0.3))
def test_equal_updates_come_back_exactly(seed: int, size: tuple[int, int], agreement: float) -> None:
    (n, f), row = size, mixed_signs(seed, 1, 40)
    rows = np.repeat(row, n, axis=0)
    weights = np.random.default_rng(seed).integers(1, 1 << 20, n).tolist()
    assert (run(rule(n, f), rows, weights, agreement).delta == row[0]).all()
    assert (run(rule(n, f), rows, weights, agreement, mix=f).delta == row[0]).all()


@examples(40)
@given(seeds, sizes)
def test_is_the_weighted_mean_where_updates_hardly_agree_or_none_may_be_hostile(
    seed: int, size: tuple[int, int]
) -> None:
    (n, f), rows = size, mixed_signs(seed, size[0], 40)
    weights = np.random.default_rng(seed).integers(1, 1 << 20, n).tolist()
    mean = aggregate(Mean(), Rows(rows, weights), UNIT).delta.tolist()
    assert run(rule(n, f), rows, weights, agreement=0.0).delta.tolist() == mean
    assert run(SupportedMean(hostile=0.0), rows, weights).delta.tolist() == mean


@examples(40)
@given(seeds, sizes, st.permutations(range(20)), st.integers(0, 10))
def test_neither_the_order_of_updates_nor_a_power_of_two_matters(
    seed: int, size: tuple[int, int], order: list[int], shift: int
) -> None:
    (n, f), rows = size, mixed_signs(seed, size[0], 20)
    order = [i for i in order if i < n]
    weights = np.random.default_rng(seed).integers(1, 1 << 20, n).tolist()
    delta = run(rule(n, f), rows, weights).delta
    assert (run(rule(n, f), rows[order], [weights[i] for i in order]).delta == delta).all()
    assert (run(rule(n, f), -rows, weights).delta == -delta).all()
    scaled = run(rule(n, f), rows << shift, weights).delta
    # The result is rounded once, so that is off by less than what half a unit becomes.
    assert np.abs(scaled - (delta << shift)).max() <= 1 << shift >> 1


@examples(40)
@given(seeds, st.sampled_from([(9, 2), (10, 3), (15, 4)]), st.integers(1, 3))
def test_mixing_comes_before_it(seed: int, size: tuple[int, int], mix: int) -> None:
    (n, f), rows = size, mixed_signs(seed, size[0])
    outcome = run(rule(n, f), rows, mix=mix)
    mixer = build(MIXINGS, "nearest_neighbour_mixing@2", {"f": mix})
    coefficients = mixer.coefficients(a_round(rows).features.gram[:n, :n], [1] * n)
    mixtures = [
        [
            sum(int(c) * value for c, value in zip(own, column, strict=True)) / Fraction(int(own.sum()))
            for column in zip(*exactly(rows), strict=True)
        ]
        for own in coefficients
    ]
    expected = by_definition(mixtures, [1] * n, f, PARTS)
    # Mixtures have a common denominator, and what is made of them is rounded to it first.
    assert all(abs(int(found) - value) <= 1 for found, value in zip(outcome.delta, expected, strict=True))


def test_who_was_refused_is_one_hostile_update_less_and_is_not_looked_at() -> None:
    rows, n, f = honest(np.random.default_rng(2), 10, 50), 10, 3
    for refused in range(6):
        weights = [0] * refused + [1] * (n - refused)
        outcome = run(rule(n, f), rows, weights)
        spare = max(0, f - refused)
        assert outcome.diagnostics["spare"] == spare
        expected = by_definition(exactly(rows[refused:]), weights[refused:], spare, PARTS)
        assert outcome.delta.tolist() == [rounded(value) for value in expected]
        spoilt = rows.copy()
        spoilt[:refused] = LIMIT
        assert (run(rule(n, f), spoilt, weights).delta == outcome.delta).all()


def test_few_updates_are_their_mean() -> None:
    for n in (1, 2):
        rows = mixed_signs(3, n)
        assert run(SupportedMean(hostile=0.49), rows).diagnostics["spare"] == 0
        assert (
            run(SupportedMean(hostile=0.49), rows).delta == aggregate(Mean(), Rows(rows, [1] * n), UNIT).delta
        ).all()


@pytest.mark.parametrize("attack", ["far", "near", "zero", "extremes", "opposed"])
@pytest.mark.parametrize(("n", "f"), [(5, 1), (7, 2), (9, 2), (10, 3)])
@examples(12)
@given(seed=seeds)
def test_error_is_bounded_by_the_spread_of_the_honest_but_for_what_the_hostile_withhold(
    attack: str, n: int, f: int, seed: int
) -> None:
    """As the trimmed mean, but hostile updates may take their own share f / n of the honest mean away.

    (f, κ)-robustness (Allouche et al. 2023, https://arxiv.org/abs/2302.01772) with κ = 6 r (1 + r), r = f / (n − 2f),
    of the distance to what lies between the honest mean and that without the hostile updates' share.
    """
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 4)) + rng.normal(size=4) * 3
    others = rows[f:]
    rows[:f] = {
        "far": 300 * rng.normal(size=(f, 4)),
        "near": others.mean(axis=0) + 0.5 * rng.normal(size=(1, 4)),
        "zero": np.zeros((f, 4)),
        "extremes": np.where(rng.random(4) < 0.5, others.min(axis=0), others.max(axis=0)),
        "opposed": -3 * others.mean(axis=0),
    }[attack]
    delta = run(rule(n, f), whole(rows)).delta / UNIT
    r = f / (n - 2 * f)
    kappa = 6 * r * (1 + r)
    for chosen in combinations(range(n), n - f):
        subset = rows[list(chosen)]
        centre = subset.mean(axis=0)
        ends = np.sort([centre, centre * (n - f) / n], axis=0)
        apart = np.maximum(0, np.maximum(ends[0] - delta, delta - ends[1]))
        spread = ((subset - centre) ** 2).sum() / len(subset)
        assert (apart**2).sum() <= kappa * spread + 1e-9
