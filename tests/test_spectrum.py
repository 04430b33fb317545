"""Eigenvectors without a linear algebra library: against the one of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from fedledger.aggregator.context.spectrum import STEPS, in_order, principal, times


@pytest.mark.parametrize("kind", ["normal", "grid", "orthogonal", "one", "tiny"])
def test_principal_vectors_are_those_of_numpy(kind: str) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(1, STEPS + 1)), int(rng.integers(1, 70))
        rows = rng.normal(size=(n, d))
        match kind:
            case "grid":
                rows = np.round(rows)
            case "orthogonal":
                # The largest row is no part of the first eigenvector.
                rows = np.zeros((n, 2))
                rows[1:, 1], rows[0, 0] = 9.0, 10.0
            case "one":
                rows = np.ones((n, d))
            case "tiny":
                rows *= 1e-70
        matrix = rows @ rows.T
        value, vector = principal(matrix)
        expected = np.linalg.eigvalsh(matrix)[-1]
        assert abs(value - expected) <= 1e-12 * expected + 1e-300
        assert np.abs(matrix @ vector - value * vector).max() <= 1e-7 * expected
        assert abs(np.linalg.norm(vector) - 1) < 1e-12


def test_of_a_large_matrix_it_is_the_best_of_a_subspace() -> None:
    rows = np.random.default_rng(1).normal(size=(300, 500))
    matrix = rows @ rows.T
    value, vector = principal(matrix)
    assert abs(value / np.linalg.eigvalsh(matrix)[-1] - 1) < 1e-9
    assert np.linalg.norm(matrix @ vector - value * vector) < 1e-3 * value


def test_nothing_has_no_direction() -> None:
    value, vector = principal(np.zeros((3, 3)))
    assert value == 0 and np.isfinite(vector).all()


@pytest.mark.parametrize("n", [2, 128, 129, 200])
def test_products_are_added_in_the_order_of_the_index(n: int) -> None:
    """The same bits as scalars in a row, whichever way they are computed."""
    rng = np.random.default_rng(n)
    matrix, vector = rng.normal(size=(n, n)), rng.normal(size=n) * 10.0 ** rng.integers(-9, 9, n)
    matrix += matrix.T
    expected = []
    for row in matrix.tolist():
        total = row[0] * vector.tolist()[0]
        for a, b in zip(row[1:], vector.tolist()[1:], strict=True):
            total += a * b
        expected.append(total)
    assert times(matrix, vector).tolist() == expected
    assert in_order(matrix * vector, axis=1).tolist() == expected
