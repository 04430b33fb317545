"""The subset of least diameter: against all subsets, and bounded where there are too many."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from test_rules import fixed, run

from fedledger.aggregator.context.distances import squared_distances_to
from fedledger.aggregator.context.geometry import squared_distances
from fedledger.aggregator.context.smallest_diameter import smallest_diameter
from fedledger.protocol.arithmetic.exact import LIMIT, gram
from support.examples import examples

MANY = 1 << 30


def squared(rows: np.ndarray) -> np.ndarray:
    return ((rows[:, None] - rows[None]) ** 2).sum(axis=2)


@examples(200)
@given(data=st.data(), n=st.integers(1, 10), d=st.integers(1, 3), steps=st.sampled_from([0, 3, 30, MANY]))
def test_it_is_the_first_of_all_subsets(data: st.DataObject, n: int, d: int, steps: int) -> None:
    """On a small grid, where many subsets tie; and never more than twice as wide where the search is cut short."""
    count = data.draw(st.integers(n // 2 + 1, n))
    values = st.lists(st.integers(-3, 3), min_size=d, max_size=d)
    distances = squared(np.array(data.draw(st.lists(values, min_size=n, max_size=n))))
    best = min(combinations(range(n), count), key=lambda rows: (distances[np.ix_(rows, rows)].max(), rows))
    found = smallest_diameter(distances, count, steps)
    assert len(found.places) == count and found.places == sorted(set(found.places))
    if found.is_exact:
        assert tuple(found.places) == best and found.steps <= steps
    least, width = (distances[np.ix_(rows, rows)].max() for rows in (best, found.places))
    assert width <= 4 * least
    assert found.is_exact or steps < MANY


@pytest.mark.parametrize(("n", "f", "d"), [(50, 10, 4), (50, 24, 10), (100, 30, 20)])
def test_no_swap_of_rows_is_better(n: int, f: int, d: int) -> None:
    """Where all subsets are too many: no row of the pair that is widest apart can be exchanged."""
    rows = np.random.default_rng(n).normal(size=(n, d))
    distances = squareform(pdist(rows))
    found = smallest_diameter(distances, n - f, MANY)
    assert found.is_exact
    inside = np.isin(np.arange(n), found.places)
    width = distances[np.ix_(inside, inside)].max()
    for row in np.flatnonzero(inside):
        rest = inside.copy()
        rest[row] = False
        toward = np.maximum(distances[:, rest].max(axis=1), distances[np.ix_(rest, rest)].max())
        assert (toward[~inside] >= width).all()


def test_a_hard_round_ends_in_bounded_steps() -> None:
    """Rows at the same distance from each other, and from nearly so many others."""
    rows = np.vstack([np.eye(60, dtype=np.int64) * 1000, -np.eye(60, dtype=np.int64) * 1001])
    distances = squared(rows)
    found = smallest_diameter(distances, 65, 20_000)
    assert found.steps <= 20_000 + len(rows)
    assert distances[np.ix_(found.places, found.places)].max() <= 4 * 2 * 1001**2


def test_averages_are_by_weight_and_of_exact_distances() -> None:
    """A difference in the last of 80 bits decides."""
    rows = np.array([[0, 0], [LIMIT, 0], [-LIMIT + 1, 0], [0, 1]])
    assert squared_distances(gram(rows)).dtype == object
    outcome = run("mda@1", rows, f=1, weights=[1, 2, 3, 4])
    assert outcome.diagnostics["selected"] == [0, 2, 3]
    assert outcome.delta.tolist() == [round(3 * (1 - LIMIT) / 8), 0]  # 4/8 goes to the even 0


def test_mda_leaves_out_what_is_far() -> None:
    rows = fixed(np.random.default_rng(2).normal(size=(9, 5)))
    rows[[1, 6]] += fixed(np.full((2, 5), 30.0))
    outcome = run("mda@1", rows, f=2)
    assert outcome.diagnostics["selected"] == [0, 2, 3, 4, 5, 7, 8]
    assert outcome.diagnostics["exact"] == 1


@pytest.mark.parametrize("bits", [3, 20, 40])
@pytest.mark.parametrize("d", [1, 4095, 4097, 20_000])
def test_distances_to_a_point_are_exact(bits: int, d: int) -> None:
    rows = np.random.default_rng(d).integers(-(1 << bits), 1 << bits, (4, d), np.int64, endpoint=True)
    rows[0], rows[1] = 1 << bits, -(1 << bits)
    found = squared_distances_to(list(rows[1:]), rows[0])
    assert found == [sum((a - b) ** 2 for a, b in zip(row, rows[0].tolist(), strict=True)) for row in rows[1:].tolist()]
