"""Exact distances of vectors to one point, in a pass over the vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fedledger.aggregator.context.columns import Columns
from fedledger.aggregator.context.threads import in_threads
from fedledger.protocol.arithmetic.division import BITS, MASK
from fedledger.protocol.arithmetic.exact import IntArray

_WIDTH = 4096
"""So many products of two limbs, each of at most 2^40, have a sum below 2^53."""
_HALF = 1 << (BITS - 1)


def squared_distances_to(rows: Sequence[IntArray], point: IntArray) -> list[int]:
    """Return the exact squared distances of n vectors int64[d] to a point int64[d], all of magnitude at most 2^40."""
    columns, sums = Columns(rows, width=_WIDTH), []

    def work(parts: Iterator[slice]) -> None:
        total, scratch = np.zeros(len(rows), object), columns.scratch()
        for part in parts:
            apart = columns.integers(part, scratch) - point[part]
            low = ((apart + _HALF) & MASK) - _HALF
            high = (apart - low) >> BITS
            # Whole doubles, whose every partial sum is exact.
            limbs = low.astype(np.float64), high.astype(np.float64)
            for first, second, shift in ((0, 0, 0), (0, 1, BITS + 1), (1, 1, 2 * BITS)):
                products = np.einsum("ij,ij->i", limbs[first], limbs[second])
                total = total + (products.astype(np.int64).astype(object) << shift)
        sums.append(total)

    in_threads(work, columns.parts())
    return [int(value) for value in sum(sums, np.zeros(len(rows), object))]
