"""The largest eigenvalue of a symmetric matrix and its eigenvector, with the same bits on every machine.

Sums are those of ``np.add.accumulate``, whose every partial sum is a result, so that there is one order to add in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedledger.protocol.arithmetic.exact import Float64Array

STEPS = 64
"""Most steps of Lanczos, and so the largest matrix of which the eigenvector is that of the whole matrix."""
_AT_ONCE = 128
"""Rows of a matrix that fits in a processor's cache."""
_BROKEN = 2.0**-40
"""A new direction of this length, beside the matrix, is none."""


def in_order(values: Float64Array, axis: int = 0) -> Float64Array:
    """Return the sums of float64[…] along an axis, added in the order of the index."""
    last: Float64Array = np.add.accumulate(values, axis=axis).take(-1, axis=axis)
    return last


def times(matrix: Float64Array, vector: Float64Array) -> Float64Array:
    """Return the product of a symmetric float64[n, n] and float64[n]; the same bits whichever way is faster."""
    if len(matrix) <= _AT_ONCE:
        return in_order(matrix * vector[:, None])
    total: Float64Array = matrix[0] * vector[0]
    product = np.empty(len(matrix))
    for factor, column in zip(vector[1:].tolist(), matrix[1:], strict=True):
        np.multiply(column, factor, out=product)
        total += product
    return total


def principal(matrix: Float64Array) -> tuple[float, Float64Array]:
    """Return the largest eigenvalue and a unit eigenvector float64[n] of a positive semidefinite float64[n, n].

    It is the method of Lanczos 1950 (https://doi.org/10.6028/jres.045.026) with full orthogonalisation. Where it finds
    an invariant subspace it goes on in a direction beside it, so the result is that of the whole matrix up to 64 rows;
    of more rows it is the best in a subspace of 64 dimensions.
    """
    n = len(matrix)
    largest = float(np.abs(matrix).max())
    if not largest:
        return 0.0, np.eye(1, n)[0]
    basis, diagonal, beside = np.zeros((min(n, STEPS), n)), [], []
    # Numbers without a pattern, so that nobody's update is orthogonal to them by chance.
    direction: Float64Array = 1.0 + np.arange(1, n + 1, dtype=np.float64) * 2654435761 % 4294967296 / 4294967296
    basis[0] = direction / np.sqrt(in_order(direction * direction))
    for step in range(len(basis)):
        following = times(matrix, basis[step])
        diagonal.append(float(in_order(basis[step] * following)))
        if step + 1 == len(basis):
            break
        following, length = _beside(basis[: step + 1], following)
        if length <= _BROKEN * largest:
            beside.append(0.0)
            outside = np.eye(1, n, int(in_order(basis * basis).argmin()))[0]
            following, length = _beside(basis[: step + 1], outside)
        else:
            beside.append(length)
        basis[step + 1] = following / length
    value, components = _principal_of_three_diagonals(diagonal, beside)
    vector = in_order(np.array(components)[:, None] * basis)
    return value, vector / np.sqrt(in_order(vector * vector))


def _beside(basis: Float64Array, vector: Float64Array) -> tuple[Float64Array, float]:
    """Return what of a vector is orthogonal to an orthonormal basis float64[k, n], and its length."""
    # Twice is enough (Giraud et al. 2005, https://doi.org/10.1007/s00211-005-0615-4).
    for _ in range(2):
        shares = in_order(basis * vector, axis=1)
        vector = vector - in_order(shares[:, None] * basis)
    return vector, float(np.sqrt(in_order(vector * vector)))


def _principal_of_three_diagonals(diagonal: Sequence[float], beside: Sequence[float]) -> tuple[float, list[float]]:
    """Return the largest eigenvalue and an eigenvector of a symmetric tridiagonal matrix, by bisection."""
    around = [abs(left) + abs(right) for left, right in zip([0.0, *beside], [*beside, 0.0], strict=True)]
    low = max(diagonal)
    high = max(own + other for own, other in zip(diagonal, around, strict=True))
    high += (abs(high) + max(map(abs, diagonal))) * _BROKEN
    while low < (middle := low + (high - low) / 2) < high:
        low, high = (low, middle) if _pivots(diagonal, beside, middle) else (middle, high)
    pivots = _pivots(diagonal, beside, high)
    vector = [1.0] * len(diagonal)
    for _ in range(3):
        vector = _solved(pivots, beside, vector)
    return high, vector


def _pivots(diagonal: Sequence[float], beside: Sequence[float], value: float) -> list[float]:
    """Return the pivots of value · I minus the matrix, which are positive; none if one is not."""
    pivots: list[float] = []
    carried = 0.0
    for own, other in zip(diagonal, [*beside, 0.0], strict=True):
        pivot = value - own - carried
        if not pivot > 0:
            return []
        pivots.append(pivot)
        carried = other * other / pivot
    return pivots


def _solved(pivots: Sequence[float], beside: Sequence[float], right: Sequence[float]) -> list[float]:
    """Return the solution of a system by its pivots, scaled to a largest component of 1."""
    found = list(right)
    for i, other in enumerate(beside):
        found[i + 1] += other / pivots[i] * found[i]
    found = [value / pivot for value, pivot in zip(found, pivots, strict=True)]
    for i in range(len(beside) - 1, -1, -1):
        found[i] += beside[i] / pivots[i] * found[i + 1]
    largest = max(map(abs, found))
    return [value / largest for value in found]
