"""The mean of the values of each coordinate that are nearest the median, which several rules take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedledger.aggregator.rules.base import CoordinateRule, are_equal, mean_by_weight, summable
from fedledger.protocol.arithmetic.exact import IntArray


@dataclass(frozen=True)
class NearMedian(CoordinateRule):
    """The mean of the ``count`` values of each coordinate that are nearest the median; of equally near ones, smaller.

    The median is that of all rows, which count alike. Of equal values the one of more weight comes first.

    Parameters
    ----------
    count
        How many values are averaged, from 1 to the number of rows.
    is_weighted
        Whether the mean is by the rows' weights; where those differ it is rounded once, before the division by the
        share of mixed rows.
    """

    count: int
    is_weighted: bool = False
    narrow: ClassVar[bool] = True

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        if self.is_weighted and not are_equal(weights):
            return self._by_weight(block, weights), 1
        # A copy, whatever the order of the block in memory: it is sorted in place.
        ordered = np.array(block.T, order="C")
        ordered.sort(axis=1)
        columns = ordered.astype(np.int64, copy=False)
        moves = self._moves(columns)
        gains = columns[:, self.count :] - columns[:, : len(block) - self.count]
        total: IntArray = columns[:, : self.count].sum(axis=1) + (gains * moves).sum(axis=1)
        return total, self.count

    def _by_weight(self, block: IntArray, weights: Sequence[int]) -> IntArray:
        n, reduced = len(block), np.array(summable(weights), np.int64)
        columns = np.array(block.T, np.int64, order="C")
        ordered = np.sort(columns, axis=1)
        middle, first = _doubled_median(ordered), self._moves(ordered).sum(axis=1)[:, None]
        # Equal values below the median are cut from below, and others from above: the heavier ones are on the other
        # side. Values are below 2^62 / n, so one and a rank of its row fit in one integer.
        heavier, bits = np.argsort(-reduced, kind="stable"), (n - 1).bit_length()
        rank = np.argsort(heavier)
        keys = columns << bits | np.where(2 * columns < middle, n - 1 - rank, rank)
        keys.sort(axis=1)
        ranks = keys & ((1 << bits) - 1)
        rows = heavier[np.where(2 * ordered < middle, n - 1 - ranks, ranks)]
        place = np.arange(n)
        counted: IntArray = reduced[rows] * ((place >= first) & (place < first + self.count))
        return mean_by_weight(ordered.T, counted.T, counted.sum(axis=1))

    def _moves(self, ordered: IntArray) -> IntArray:
        """Return, of int64[d', n] in order, how often the window of the nearest values moves up: int64[d', n − count].

        The nearest values are neighbours in this order. From the smallest ones the window moves up while the value
        that it would gain is nearer to the median than the one that it would lose, so the ones in a row come first.
        """
        # |2a − m| < |2b − m| for a ≥ b if and only if a + b < m and a > b; where a = b either will do.
        sums = ordered[:, : ordered.shape[1] - self.count] + ordered[:, self.count :]
        moves: IntArray = (sums < _doubled_median(ordered)).astype(np.int64)
        return moves


def _doubled_median(ordered: IntArray) -> IntArray:
    """Return twice the median of each row of int64[d', n] in order, int64[d', 1]."""
    n = ordered.shape[1]
    doubled: IntArray = ordered[:, (n - 1) // 2] + ordered[:, n // 2]
    return doubled[:, None]
