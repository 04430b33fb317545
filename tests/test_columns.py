"""Vectors a block at a time: float32 or integers, of any width, by any number of threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from threadpoolctl import threadpool_info, threadpool_limits

from fedledger.aggregator.context.columns import Columns, as_integers, exact_products
from fedledger.aggregator.context.threads import in_threads
from fedledger.aggregator.mixings.base import MIXINGS
from fedledger.aggregator.rules.aggregate import Rows, aggregate
from fedledger.aggregator.rules.base import RULES
from fedledger.protocol.arithmetic.exact import (
    LIMIT,
    FixedPoint,
    NotFiniteError,
    OutOfRangeError,
    WeightedMean,
    weighted_mean,
)
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build
from support.examples import examples

FIXED = FixedPoint(24, 64.0)
MIXED = [None, "nearest_neighbour_mixing@1", "nearest_neighbour_mixing@2"]
RULE = {
    "mean@1": {},
    "median@1": {},
    "trimmed_mean@1": {"f": 2},
    "multi_krum@1": {"f": 2},
    "geometric_median@1": {},
    "centred_clipping@1": {"tau": 1.0},
    "bulyan@1": {"f": 2},
    "supported_mean@1": {},
}


def drawn(n: int, d: int, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, d)) * scale).astype(np.float32)


@pytest.mark.parametrize("mixing", MIXED)
@pytest.mark.parametrize("rule", RULE)
@pytest.mark.parametrize(("n", "scale"), [(11, 0.01), (11, 9.0), (17, 0.3)])
def test_vectors_of_float32_give_what_their_quantised_ones_give(
    rule: str, mixing: str | None, n: int, scale: float
) -> None:
    vectors, made = drawn(n, 700, scale=scale), build(RULES, rule, RULE[rule])
    mixer = None if mixing is None else build(MIXINGS, mixing, {"f": 2})
    whole, before = np.stack([FIXED.quantise(row) for row in vectors]), vectors.copy()
    weights = [1 + i % 3 for i in range(n)]
    expected = aggregate(made, Rows(whole, weights), FIXED.unit, mixer)
    for width in (None, 1, 33, 700):
        for updates in (vectors, list(vectors)):
            found = aggregate(made, Rows(updates, weights, fixed=FIXED, columns=width), FIXED.unit, mixer)
            assert (found.delta == expected.delta).all()
            assert found.diagnostics == expected.diagnostics
    assert (vectors == before).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_matter(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = drawn(13, 5000, scale=3.0)
    expected = aggregate(build(RULES, "multi_krum@1", {"f": 3}), Rows(vectors, [1] * 13, fixed=FIXED), FIXED.unit)
    monkeypatch.setattr("fedledger.aggregator.context.threads._allowed", lambda: threads)
    given_ = Rows(vectors, [1] * 13, fixed=FIXED, columns=100)
    found = aggregate(build(RULES, "multi_krum@1", {"f": 3}), given_, FIXED.unit)
    assert (found.delta == expected.delta).all()
    assert found.diagnostics == expected.diagnostics


def test_each_part_is_worked_on_once_and_errors_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedledger.aggregator.context.threads._allowed", lambda: 4)
    seen: list[int] = []
    in_threads(seen.extend, range(1000))
    assert sorted(seen) == list(range(1000))

    def fail(parts: Iterator[int]) -> None:
        for part in parts:
            if part == 7:
                raise OutOfRangeError("Seven.", "Give another.")

    with pytest.raises(OutOfRangeError, match="Seven"):
        in_threads(fail, range(20))


def test_two_calls_at_once_leave_linear_algebra_its_threads() -> None:
    vectors, before = drawn(9, 4000), [library["num_threads"] for library in threadpool_info()]
    columns = Columns(vectors, FIXED, width=50)
    expected = columns.products()
    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(lambda _: columns.products(), range(60)):
            assert (found == expected).all()
    assert [library["num_threads"] for library in threadpool_info()] == before
    with threadpool_limits(1, user_api="blas"):
        assert (columns.products() == expected).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 64.1, -1e38, 3e38])
@pytest.mark.parametrize("rule", ["mean@1", "median@1", "multi_krum@1"])
def test_no_float_slips_through_that_is_no_number_or_beyond_the_bound(rule: str, bad: float) -> None:
    vectors = drawn(7, 300)
    vectors[3, 200] = bad
    error = OutOfRangeError if np.isfinite(bad) else NotFiniteError
    for rows in (vectors, list(vectors)):
        for width in (None, 50):
            with pytest.raises(error):
                aggregate(build(RULES, rule, RULE[rule]), Rows(rows, [1] * 7, fixed=FIXED, columns=width), FIXED.unit)


def test_floats_need_a_format_and_do_not_mix_with_integers() -> None:
    vectors = drawn(3, 4)
    for rows, fixed in ((vectors, None), ([vectors[0], np.zeros(4, np.int64)], FIXED)):
        with pytest.raises(ConfigError, match="fixed-point format"):
            Columns(rows, fixed)


@examples(100)
@given(
    arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.integers(-LIMIT, LIMIT)),
    st.integers(1, 9),
    st.booleans(),
)
def test_inner_products_are_those_of_python_integers(rows: np.ndarray, width: int, with_last: bool) -> None:
    last = rows[0][::-1].copy() if with_last else None
    every = [*rows.tolist(), *([] if last is None else [last.tolist()])]
    expected = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in every] for x in every]
    assert Columns(list(rows), width=width, last=last).products().tolist() == expected
    assert exact_products(rows).tolist() == [line[: len(rows)] for line in expected[: len(rows)]]


@pytest.mark.parametrize("largest", [1, 1 << 21, 1 << 23, (1 << 26) - 1, 1 << 30, LIMIT])
def test_long_vectors_of_any_size_have_exact_products(largest: int) -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(-largest, largest, (3, 9000), endpoint=True)
    rows[0] = largest
    expected = rows.astype(object) @ rows.T.astype(object)
    assert (exact_products(rows) == expected).all()
    halves = [Columns(rows[:, :4000]), Columns(rows[:, 4000:])]
    assert (halves[0].products().astype(object) + halves[1].products().astype(object) == expected).all()


@pytest.mark.parametrize("edge", [(1 << 31) - 1, -(1 << 31) + 1, 1 << 31, -(1 << 31), LIMIT])
def test_a_block_is_narrow_where_that_holds_all_of_it(edge: int) -> None:
    block = np.array([[1, edge], [-2, 3]])
    for given_ in (block, block.astype(np.float64)):
        found = as_integers(given_, narrow=True)
        assert found.tolist() == block.tolist()
        assert found.dtype == (np.int32 if abs(edge) < 1 << 31 else np.int64)


@examples(200)
@given(
    st.integers(0, 40),
    st.lists(st.integers(-(1 << 62), 1 << 62), min_size=1, max_size=8),
    st.integers(1, (1 << 61) - 1),
    st.integers(0, 2**32),
)
def test_a_mean_does_not_depend_on_what_is_known_of_the_largest_value(
    bits: int, coefficients: list[int], denominator: int, seed: int
) -> None:
    rows = np.random.default_rng(seed).integers(-(1 << bits), 1 << bits, (len(coefficients), 5), endpoint=True)
    try:
        mean = WeightedMean(coefficients, denominator)
    except OutOfRangeError:
        return
    expected = []
    for column in rows.T.tolist():
        total = sum(c * v for c, v in zip(coefficients, column, strict=True))
        quotient, rest = divmod(total, denominator)
        expected.append(quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2)))
    for most in (None, 1 << bits, LIMIT):
        assert mean(rows, most).tolist() == mean(rows.astype(np.float64), most).tolist() == expected
    assert weighted_mean(rows, coefficients, denominator).tolist() == expected
