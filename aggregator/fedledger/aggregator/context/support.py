"""How far a coordinate of an update is supported: more others move it as far than may be hostile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.ranks import sum_of_ranks
from fedledger.aggregator.context.sketches import BITS
from fedledger.protocol.arithmetic.exact import Float64Array, IntArray


def limits(block: IntArray, spare: int) -> tuple[IntArray, IntArray]:
    """Return how far down and up each column of int64[n, d'] is supported, int64[d'] each, with 0 in between.

    More than ``spare`` rows are at least as far away from 0 on that side; n > 2 · ``spare``.
    """
    n = len(block)
    low, high = sum_of_ranks(block, spare, spare + 1), sum_of_ranks(block, n - 1 - spare, n - spare)
    return np.minimum(low, 0), np.maximum(high, 0)


def supported_shares(updates: IntArray, accepted: NDArray[np.bool_], spare: int, most: int) -> Float64Array:
    """Return the share of each update that the accepted ones support, float64[n], as its own inner product with it.

    Parameters
    ----------
    updates
        int64[n, d].
    accepted
        Whose support counts, bool[n].
    spare
        How many of them may be hostile.
    most
        Of more coordinates than this, equally spaced ones are looked at.
    """
    n, d = updates.shape
    count = int(accepted.sum())
    if not count or not d:
        return np.zeros(n)
    rows = updates[:, :: -(-d // most)]
    low, high = limits(rows[accepted], min(spare, (count - 1) // 2))
    # Each row is cut to so many bits by itself, so that a large one takes none from the others.
    largest = np.abs(rows).max(axis=1).tolist()
    shifts = np.array([max(0, value.bit_length() - BITS) for value in largest])[:, None]
    supported, rows = np.clip(rows, low, high) >> shifts, rows >> shifts
    # Squares are at most 2^30, and there are fewer than 2^15 of them.
    whole = (rows * rows).sum(axis=1)
    kept = (supported * rows).sum(axis=1)
    shares: Float64Array = kept / np.maximum(whole, 1)
    return shares
