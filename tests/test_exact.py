from fractions import Fraction
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.arithmetic.exact import (
    LIMIT,
    FixedPoint,
    GramAccumulator,
    NotFiniteError,
    OutOfRangeError,
    divide_round,
    gram,
    saturate,
    small_product,
    weighted_mean,
)
from fedledger.protocol.arithmetic.weighted_sum import WeightedSum
from fedledger.protocol.errors import ConfigError
from support.examples import examples

VALUES = st.one_of(
    st.integers(-LIMIT, LIMIT),
    st.sampled_from([LIMIT, -LIMIT, LIMIT - 1, 1 << 20, -(1 << 20), (1 << 20) - 1, 1 << 21, 0, 1, -1]),
)


@st.composite
def matrices(draw: st.DrawFn, rows: int = 5, columns: int = 6) -> np.ndarray:
    n, d = draw(st.integers(1, rows)), draw(st.integers(1, columns))
    return np.array(draw(st.lists(VALUES, min_size=n * d, max_size=n * d)), np.int64).reshape(n, d)


def half_even(numerator: int, denominator: int) -> int:
    """Rounding by Python integers alone: the oracle."""
    quotient, remainder = divmod(numerator, denominator)
    return quotient + (2 * remainder > denominator or (2 * remainder == denominator and quotient % 2 == 1))


@given(
    matrices(),
    st.data(),
    st.one_of(
        st.integers(1, (1 << 61) - 1),
        st.sampled_from([1, 2, 3, 1 << 30, (1 << 41) - 1, 1 << 41, (1 << 61) - 1]),
    ),
)
def test_weighted_mean_is_that_of_python_integers(rows: np.ndarray, data: st.DataObject, denominator: int) -> None:
    size = min(denominator << 19, 1 << 62)
    coefficients = data.draw(
        st.lists(st.integers(-size, size), min_size=len(rows), max_size=len(rows)), label="coefficients"
    )
    expected = [
        half_even(sum(c * int(q) for c, q in zip(coefficients, column, strict=True)), denominator) for column in rows.T
    ]
    assert weighted_mean(rows, coefficients, denominator).tolist() == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_weighted_mean_of_the_largest_values_of_the_most_rows(sign: int) -> None:
    rows = np.full((4096, 2), sign * LIMIT, np.int64)
    weights = [(1 << 40) - i for i in range(4096)]
    assert weighted_mean(rows, weights, sum(weights)).tolist() == [sign * LIMIT] * 2


def test_a_sum_that_might_not_fit_is_refused() -> None:
    row = np.array([[1]], np.int64)
    with pytest.raises(OutOfRangeError, match="too large"):
        weighted_mean(row, [1 << 22], 1)
    with pytest.raises(OutOfRangeError, match="beyond 2\\^40"):
        weighted_mean(row * (LIMIT + 1), [1], 1)
    with pytest.raises(OutOfRangeError, match="beyond 2\\^40"):
        gram(row * -(LIMIT + 1))


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5), st.integers(1, (1 << 61) - 1))
def test_division_rounds_half_to_even(values: list[int], denominator: int) -> None:
    expected = [half_even(v, denominator) for v in values]
    assert divide_round(np.array(values, np.int64), denominator).tolist() == expected


@given(st.one_of(st.integers(1, 5000), st.integers(1, 2**50)), st.integers(1, 62), st.data())
def test_a_division_of_a_small_number_or_by_one_is_rounded_half_to_even(
    denominator: int, bits: int, data: st.DataObject
) -> None:
    most = 2**bits // denominator
    quotients = data.draw(st.lists(st.integers(-most, most), min_size=1, max_size=9))
    # What lies just at and about the halves.
    values = [q * denominator + denominator // 2 + e for q in quotients for e in (-1, 0, 1)]
    total = [value for value in values if abs(value) < 2**bits]
    found = divide_round(np.array(total, np.int64), denominator)
    assert found.tolist() == [half_even(value, denominator) for value in total]


def test_halves_that_no_double_holds_go_to_even() -> None:
    """A total of more than 53 bits, which a double rounds, may lie on the other side of a half."""
    draw = Random(1)
    for _ in range(500):
        denominator = 2 * draw.randrange(1 << 11, 1 << draw.randrange(12, 50))
        most = (1 << 62) // denominator - 2
        quotients = [sign * draw.randrange(most // 2, most + 1) for sign in (1, -1) for _ in range(10)]
        values = [q * denominator + denominator // 2 for q in quotients]
        found = divide_round(np.array(values, np.int64), denominator)
        assert found.tolist() == [q + q % 2 for q in quotients]


def test_halves_go_to_even_on_both_sides_of_zero() -> None:
    halves = np.array([-5, -3, -1, 1, 3, 5], np.int64)
    assert divide_round(halves, 2).tolist() == [-2, -2, 0, 0, 2, 2]
    assert weighted_mean(halves[None], [1], 2).tolist() == [-2, -2, 0, 0, 2, 2]


@given(matrices(), st.lists(st.integers(0, 6), max_size=3), st.data())
def test_gram_is_that_of_python_integers_for_any_blocks_and_orders(
    rows: np.ndarray, cuts: list[int], data: st.DataObject
) -> None:
    expected = [[sum(int(a) * int(b) for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]
    assert gram(rows).tolist() == expected
    edges = [0, *sorted(min(cut, rows.shape[1]) for cut in cuts), rows.shape[1]]
    assert gram(rows[:, a:b] for a, b in pairwise(edges)).tolist() == expected
    columns = data.draw(st.permutations(range(rows.shape[1])))
    assert gram(rows[:, columns]).tolist() == expected
    order = data.draw(st.permutations(range(len(rows))))
    assert gram(rows[order]).tolist() == [[expected[i][j] for j in order] for i in order]


def test_gram_of_extreme_values_over_many_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedledger.protocol.arithmetic.exact._ROOM", 10_000 << 40)
    d = 30_011
    worst = (1 << 40) - (1 << 20)  # both limbs at their largest
    rows = np.array([[LIMIT], [-LIMIT], [worst], [1]], np.int64) * np.ones(d, np.int64)
    entries = [LIMIT, -LIMIT, worst, 1]
    accumulator = GramAccumulator(4)
    for start in range(0, d, 7_777):
        accumulator.add(rows[:, start : start + 7_777])
    assert accumulator.result().tolist() == [[d * a * b for b in entries] for a in entries]


@given(st.data())
@examples(50)
def test_gram_is_the_same_whatever_the_columns_have_in_common(data: st.DataObject) -> None:
    """Blocks of small values, of middling ones and of large ones are multiplied each in its own way."""
    n = data.draw(st.integers(1, 4))
    blocks = []
    for bits in data.draw(st.lists(st.sampled_from([0, 3, 20, 22, 23, 24, 30, 40]), min_size=1, max_size=5)):
        seed, d = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.sampled_from([1, 511, 513, 4097]))
        block = np.random.default_rng(seed).integers(-(1 << bits), 1 << bits, (n, d), np.int64, endpoint=True)
        block[:, 0] = data.draw(st.sampled_from([1 << bits, -(1 << bits)]))
        blocks.append(block)
    whole = np.hstack(blocks).astype(object)
    expected = (whole @ whole.T).tolist()
    assert gram(blocks).tolist() == expected == gram(np.hstack(blocks)).tolist()


def test_gram_of_odd_limbs_over_more_columns_than_a_double_can_add() -> None:
    d, odd = 30_011, (((1 << 19) - 1) << 21) + (1 << 20) - 1  # both limbs odd and at their largest
    rows = np.array([[odd], [-odd]], np.int64) * np.ones(d, np.int64)
    assert gram(rows).tolist() == [[d * odd * odd, -d * odd * odd], [-d * odd * odd, d * odd * odd]]


def test_gram_of_more_columns_than_int64_can_add() -> None:
    d, worst = 1 << 23, (1 << 40) - (1 << 20)
    block = np.full((1, 1 << 16), worst, np.int64)
    assert gram(block for _ in range(d >> 16)).tolist() == [[d * worst * worst]]


@given(matrices(), st.data())
def test_small_product_is_that_of_python_integers(rows: np.ndarray, data: st.DataObject) -> None:
    n = len(rows)
    matrix = np.array([data.draw(st.lists(st.integers(-800, 800), min_size=n, max_size=n)) for _ in range(2)], np.int64)
    expected = matrix.astype(object) @ rows.astype(object)
    assert (small_product(matrix, rows) == expected).all()


@given(st.lists(st.floats(-64, 64, width=32), max_size=6), st.integers(1, 34))
def test_quantise_is_the_nearest_integer(values: list[float], bits: int) -> None:
    point = FixedPoint(bits, 64.0)
    x = np.array(values, np.float32)
    quantised = point.quantise(x)
    assert quantised.tolist() == [round(float(v) * 2**bits) for v in x]
    assert np.abs(point.to_float32(quantised) - x).max(initial=0) <= 2.0 ** -(bits + 1)


@examples(30)
@given(st.integers(-LIMIT, LIMIT))
def test_float32_and_back_keeps_24_bits(q: int) -> None:
    point = FixedPoint(24, 65536.0)
    assert point.quantise(point.to_float32(np.array([q >> 17], np.int64))).tolist() == [q >> 17]


def test_quantise_refuses_what_is_out_of_range_or_not_finite() -> None:
    point = FixedPoint(24, 64.0)
    assert point.quantise(np.array([64, -64], np.float32)).tolist() == [64 << 24, -64 << 24]
    with pytest.raises(OutOfRangeError):
        point.quantise(np.array([0, np.nextafter(np.float32(64), np.float32(65))], np.float32))
    for odd in (np.nan, np.inf, -np.inf):
        with pytest.raises(NotFiniteError):
            point.quantise(np.array([0, odd, 1], np.float32))


@pytest.mark.parametrize(("bits", "bound"), [(0, 1.0), (41, 0.1), (40, 1.5), (24, 0.0), (24, float("nan"))])
def test_formats_that_do_not_fit_are_refused(bits: int, bound: float) -> None:
    with pytest.raises(ConfigError):
        FixedPoint(bits, bound)


def test_saturate_limits_and_rounds() -> None:
    assert saturate(np.array([2.5, -3.5, 1e300, -1e300])).tolist() == [2, -4, LIMIT, -LIMIT]


@given(
    st.sampled_from([(24, 64.0), (8, 0.3), (36, 16.0), (40, 1.0), (10, 7.7)]),
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.lists(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3), min_size=n, max_size=n),
            st.lists(st.integers(1, 1 << 20), min_size=n, max_size=n),
            st.integers(0, n),
        )
    ),
)
def test_a_sum_in_parts_has_the_weighted_mean_of_all_rows(
    form: tuple[int, float], drawn: tuple[list[list[float]], list[int], int]
) -> None:
    fixed, (vectors, weights, cut) = FixedPoint(*form), drawn
    rows = np.array(vectors, np.float32) * np.float32(min(1.0, fixed.bound * 0.999))
    total, other = (WeightedSum(fixed, 3, sum(weights)) for _ in range(2))
    for i, (row, weight) in enumerate(zip(rows, weights, strict=True)):
        (total if i < cut else other).add(row, weight)
    total.merge(other.limbs, other.weight)
    expected = weighted_mean(np.stack([fixed.quantise(row) for row in rows]), weights, sum(weights))
    assert np.array_equal(total.mean(), expected)


def test_a_sum_of_many_bits_is_exact_at_its_limits() -> None:
    fixed = FixedPoint(36, 16.0)
    weights = 1 << 40
    total = WeightedSum(fixed, 2, weights)
    assert len(total.limbs) == 2
    total.add(np.array([16.0, -16.0], np.float32), weights - 1)
    total.add(np.array([-16.0, 16.0], np.float32), 1)
    exact = half_even(LIMIT * (weights - 2), weights)
    assert total.mean().tolist() == [exact, -exact]
    with pytest.raises(OutOfRangeError):
        WeightedSum(fixed, 2, 1 << 41)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 64.1, -1e30])
def test_what_a_sum_refuses_leaves_it_as_it_was(bad: float) -> None:
    total = WeightedSum(FixedPoint(24, 64.0), 2, 10)
    total.add(np.array([1.0, 2.0], np.float32), 4)
    with pytest.raises((NotFiniteError, OutOfRangeError)):
        total.add(np.array([0.0, bad], np.float32), 6)
    assert total.weight == 4
    assert total.mean().tolist() == [1 << 24, 2 << 24]


@given(
    st.lists(st.integers(-(2**61), 2**61), min_size=1, max_size=20),
    st.integers(1 << 12, 2**61 - 1),
)
def test_a_division_by_a_large_number_is_rounded_half_to_even(values: list[int], denominator: int) -> None:
    # Of what is drawn, and of what lies just at and about the halves.
    halves = [q * denominator + denominator // 2 + e for q in (-2, -1, 0, 1) for e in (-1, 0, 1)]
    total = [value for value in values + halves if abs(value) < 2**62]
    found = divide_round(np.array(total, np.int64), denominator)
    assert found.tolist() == [round(Fraction(value, denominator)) for value in total]


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 20), st.lists(st.floats(-64, 64, width=32), min_size=3, max_size=3)),
        min_size=1,
        max_size=9,
    ),
    st.sampled_from([1 << 24, 1 << 38]),
)
def test_rows_are_added_as_one_after_another(added: list[tuple[int, list[float]]], weights: int) -> None:
    fixed = FixedPoint(24, 64.0)
    together, alone = WeightedSum(fixed, 3, weights), WeightedSum(fixed, 3, weights)
    together.add_rows(np.array([row for _, row in added], np.float32), [weight for weight, _ in added])
    for weight, row in added:
        alone.add(np.array(row, np.float32), weight)
    assert together.weight == alone.weight
    assert np.array_equal(together.limbs, alone.limbs)
