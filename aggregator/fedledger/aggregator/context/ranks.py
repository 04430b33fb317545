"""Sums of the values of some ranks in every column."""

from __future__ import annotations

import functools
import itertools

import numpy as np

from fedledger.protocol.arithmetic.exact import IntArray

NETWORK_ROWS = 14
"""Most rows that a sorting network puts in order in less time than sorting every column takes."""


def sum_of_ranks(block: IntArray, low: int, high: int) -> IntArray:
    """Return for each column of int64[n, d'] or int32[n, d'] the sum of the values of rank low to high − 1, from 0."""
    if len(block) <= NETWORK_ROWS:
        chosen = _ranked(block, low, high)
        total = chosen[0].astype(np.int64, copy=False)
        for row in chosen[1:]:
            total += row
        return total
    # A whole sort has vector instructions, and takes a third of the time of a partition.
    columns = np.ascontiguousarray(block.T)
    columns.sort(axis=1)
    summed: IntArray = columns[:, low:high].sum(axis=1, dtype=np.int64)
    return summed


def _ranked(block: IntArray, low: int, high: int) -> list[IntArray]:
    """Return the values of rank low to high − 1 of every column of int64[n, d']: whole rows are compared at once."""
    rows, spare = list(block.copy()), np.empty_like(block[0])
    for above, below, wants_smaller, wants_larger in _network(len(rows), low, high):
        first, second = rows[above], rows[below]
        if not wants_larger:
            np.minimum(first, second, out=first)
        elif not wants_smaller:
            np.maximum(first, second, out=second)
        else:
            np.minimum(first, second, out=spare)
            np.maximum(first, second, out=second)
            rows[above], spare = spare, first
    return rows[low:high]


@functools.cache
def _network(n: int, low: int, high: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """Return which of n values to compare and swap in turn, and whether the smaller and the larger one are needed.

    It is the network of Batcher (1968, https://doi.org/10.1145/1468075.1468121), without what the values of rank low to
    high − 1 do not depend on.
    """
    pairs = []
    for merged in itertools.takewhile(lambda size: size < n, (1 << k for k in itertools.count())):
        for apart in (merged >> k for k in range(merged.bit_length())):
            for start in range(apart % merged, n - apart, 2 * apart):
                for i in range(start, min(start + apart, n - apart)):
                    if i // (2 * merged) == (i + apart) // (2 * merged):
                        pairs.append((i, i + apart))
    needed, steps = set(range(low, high)), []
    for above, below in reversed(pairs):
        if needed & {above, below}:
            steps.append((above, below, above in needed, below in needed))
            needed |= {above, below}
    return tuple(reversed(steps))
