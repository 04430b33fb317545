"""The point of least weighted sum of distances to rows, of which only the distances from each other are known.

A point is an affine combination of the rows: with their squared distances D, v = Σ a_j x_j is
‖x_i − v‖² = (D a)_i − ½ aᵀ D a away from row i. Translation cannot spoil that, unlike inner products.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import Float64Array

ROUNDING = 1e-10
"""A row that misses Vardi and Zhang's condition by no larger a share is the point of least sum."""
DOUBLINGS, HALVINGS = 60, 40
"""Of a distance from a row, to find one that is too large and then where the sum is least."""


def least_distances(
    exact: NDArray[Any], weights: Sequence[int], iterations: int, tolerance: float
) -> tuple[list[float], int]:
    """Return the coefficients, which sum to 1, of the point of least weighted sum of distances, and the steps taken.

    A row is that point if and only if the pull of the others is at most its own weight (Vardi and Zhang 2000,
    https://doi.org/10.1073/pnas.97.4.1423), and only the row of the least sum can be. If it is not, their step leads
    from it to a point of a lower sum than any row's. From there on the sum is smooth, as no step raises it, and the
    steps are Weiszfeld's. Of equal rows the first one stands for all.

    Parameters
    ----------
    exact
        Squared distances of the rows, integers[n, n].
    weights
        Their weights.
    iterations
        Largest number of steps.
    tolerance
        How far the sum may be above the least one, as a share of it.
    """
    own: dict[int, int] = {}
    for first, weight in zip((exact == 0).argmax(axis=1).tolist(), weights, strict=True):
        own[first] = own.get(first, 0) + weight
    distinct = list(own)
    found, steps = _of_distinct(
        exact[np.ix_(distinct, distinct)], np.array([float(weight) for weight in own.values()]), iterations, tolerance
    )
    coefficients = np.zeros(len(exact))
    coefficients[distinct] = found
    return coefficients.tolist(), steps


def _of_distinct(
    exact: NDArray[Any], weights: Float64Array, iterations: int, tolerance: float
) -> tuple[Float64Array, int]:
    squared = exact.astype(np.float64)
    distances = np.sqrt(squared)
    sums = _combined(weights, distances).tolist()
    best = min(range(len(sums)), key=sums.__getitem__)
    alone: Float64Array = np.zeros(len(sums))
    alone[best] = 1.0
    pulls = np.divide(weights, distances[best], out=np.zeros(len(sums)), where=alone == 0)
    here, pull = float(weights[best]), _length(exact, best, pulls)
    if pull <= here * (1 + ROUNDING):
        return alone, 0
    start = (1 - here / pull) * (pulls / _total(pulls)) + here / pull * alone
    return _descended(squared, weights, start, iterations, tolerance)


def _length(exact: NDArray[Any], k: int, pulls: Float64Array) -> float:
    """Return ‖Σ_i pulls[i] (x_i − x_k)‖, given the squared distances of rows, integers[n, n]."""
    # 2 ⟨x_i − x_k, x_j − x_k⟩, exact before it is a double; a product may be twice as large as a distance.
    toward = exact[k] if exact.max() < 1 << 61 else exact[k].astype(object)
    products = (toward[:, None] + toward[None, :] - exact).astype(np.float64)
    return sqrt(max(_inner(pulls, _combined(pulls, products)) / 2, 0.0))


def _descended(
    squared: Float64Array, weights: Float64Array, point: Float64Array, iterations: int, tolerance: float
) -> tuple[Float64Array, int]:
    """Return where Weiszfeld's steps lead from a point at which the sum is smooth, and how many there were.

    Near a row that pulls more than all others, they are as short as the distance to it. There the sum is minimised
    along the line from that row, too.
    """
    total, squares = _total(weights), _squares(squared, point)
    for step in range(iterations):
        if squares.min() <= 0:
            return point, step
        pulls = weights / np.sqrt(squares)
        strength, near = _total(pulls), int(pulls.argmax())
        following = pulls / strength
        after = _squares(squared, following)
        moved = _inner(point - following, after - squares) / 2
        if 2 * pulls[near] > strength and after.min() > 0:
            far = _farther(weights, after, squared[near], near)
            after = _at(far, after, squared[near], near)
            following = far * following
            following[near] += 1 - far
        point, squares = following, after
        # The gradient was strength · √moved; the sum is convex, and least 2 · sum / total away at most.
        if 2 * strength * sqrt(max(moved, 0.0)) <= tolerance * total:
            return point, step + 1
    return point, iterations


def _squares(squared: Float64Array, point: Float64Array) -> Float64Array:
    """Return the squared distances of a point to the rows, float64[n]."""
    toward = _combined(point, squared)
    squares: Float64Array = toward - _inner(point, toward) / 2
    return squares


def _at(far: float, squares: Float64Array, apart: Float64Array, k: int) -> Float64Array:
    """Return the squared distances of a point to the rows, float64[n], once it is ``far`` times as far from row k.

    Parameters
    ----------
    far
        How far.
    squares
        The point's squared distances before.
    apart
        The squared distances of row k.
    k
        The row.
    """
    longer = far - 1
    moved: Float64Array = squares + longer * (squares + squares[k] - apart + longer * squares[k])
    return moved


def _farther(weights: Float64Array, squares: Float64Array, apart: Float64Array, k: int) -> float:
    """Return how many times as far from row k a point has to be for the sum to be about least; 1 if that is not seen.

    The parameters are as those of :func:`_at`.
    """
    slopes = (squares + squares[k] - apart) / 2

    def rises(far: float) -> bool:
        after = _at(far, squares, apart, k)
        is_apart = after > 0
        rates = weights * (slopes + (far - 1) * squares[k])
        lengths = np.sqrt(np.where(is_apart, after, 1.0))
        return _total(np.where(is_apart, rates / lengths, 0.0)) >= 0

    low, high = 0.0, 1.0
    for _ in range(DOUBLINGS):
        if rises(high):
            break
        low, high = high, 2 * high
    else:
        return 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rises(middle) else (middle, high)
    return low or 1.0


def _combined(coefficients: Float64Array, columns: Float64Array) -> Float64Array:
    """Return Σ_j coefficients[j] · columns[j] of float64[n, m], in index order."""
    total, product = np.zeros(columns.shape[1]), np.empty(columns.shape[1])
    for coefficient, column in zip(coefficients.tolist(), columns, strict=True):
        np.multiply(column, coefficient, out=product)
        total += product
    return total


def _inner(left: Float64Array, right: Float64Array) -> float:
    """Return the inner product of float64[n], in index order."""
    return _total(left * right)


def _total(values: Float64Array) -> float:
    """Return the sum of float64[n], in index order."""
    total = 0.0
    for value in values.tolist():
        total += value
    return total
