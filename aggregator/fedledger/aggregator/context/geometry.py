"""Distances between updates, and how many hostile ones a round tolerates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import Float64Array, Gram


def tolerated(f: int, n: int, spare: int = 1) -> int:
    """Return the largest f' ≤ f with n ≥ 2f' + spare (0 if there is none).

    A round may bring fewer updates than the task foresaw; the rule then tolerates as many hostile ones as it
    can.
    """
    return max(0, min(f, (n - spare) // 2))


def squared_distances(gram: Gram) -> NDArray[Any]:
    """Return the exact squared distances of all pairs of rows, as int64 where all fit and else as Python integers."""
    products = gram
    # No product is larger than the largest square, and a distance is at most four of those.
    is_small = gram.max(initial=0) < 1 << 60
    if is_small != (gram.dtype == np.int64):
        products = gram.astype(np.int64 if is_small else object)
    squares = products.diagonal()
    distances: NDArray[Any] = squares[:, None] + squares[None, :] - 2 * products
    return distances


def cosines(gram: Gram) -> Float64Array:
    """Return the cosines of the angles between all pairs of rows, float64[n, n]; 0 where a row is zero."""
    products: Float64Array = gram.astype(np.float64)
    norms = np.sqrt(products.diagonal())
    scales: Float64Array = norms[:, None] * norms[None, :]
    found: Float64Array = np.divide(products, scales, out=np.zeros_like(scales), where=scales > 0)
    return found


def shared_places(values: Sequence[int], weights: Sequence[int], most: int) -> list[int]:
    """Return the weights of the ``most`` least values, and 0 for the others, all times a common factor.

    Values that tie for the last places share them alike, whatever their order: the factor is how many do.
    """
    last = sorted(values)[most - 1]
    below, ties = sum(value < last for value in values), values.count(last)
    parts = {True: ties, False: most - below}
    return [weight * parts[value < last] if value <= last else 0 for value, weight in zip(values, weights, strict=True)]
