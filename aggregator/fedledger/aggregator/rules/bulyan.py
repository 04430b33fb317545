"""Bulyan (El Mhamdi et al. 2018, https://arxiv.org/abs/1802.07927)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.geometry import squared_distances
from fedledger.aggregator.rules.base import RULES, CoordinateRule, Diagnostics, RuleContext
from fedledger.aggregator.rules.near_median import NearMedian
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.methods.parameters import Checked, Whole


@RULES.register("bulyan@1")
@dataclass(frozen=True)
class Bulyan(Checked, CoordinateRule):
    """Choose n − 2f rows by repeated Krum; then, per coordinate, average the n − 4f values nearest their median.

    Each turn of Krum takes, of the rows that are left, the one of least summed squared distance to its nearest others,
    the earlier address if equal. Of two values equally near the median the smaller one is nearer.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; lowered to what n ≥ 4f + 3 allows.
    """

    f: Annotated[int, Whole(0, 4096)]
    needs_gram: ClassVar[bool] = True

    def first_stage(self, context: RuleContext) -> tuple[Sequence[int], CoordinateRule]:
        """Return the rows that repeated Krum takes, and the rule that averages near their median."""
        n = len(context.weights)
        f = self._tolerated(n)
        left = _Left(squared_distances(context.gram), f)
        return sorted(left.take() for _ in range(n - 2 * f)), self._second(n - 4 * f)

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        """Average all values of each coordinate, as is right where no update is hostile."""
        return self._second(len(block))(block, weights)

    def diagnostics(self, n: int) -> Diagnostics:
        """Return the f that was used."""
        return {"f": self._tolerated(n)}

    def _second(self, count: int) -> CoordinateRule:
        """Return the rule that averages so many values near their median."""
        return NearMedian(count)

    def _tolerated(self, n: int) -> int:
        return max(0, min(self.f, (n - 3) // 4))


@RULES.register("bulyan@2")
@dataclass(frozen=True)
class StrictBulyan(Bulyan):
    """Choose n − 2f rows by repeated Krum; per coordinate, average the n − 4f values nearest their median by weight.

    Each turn of Krum takes, of the rows that are left, the one of least summed squared distance to its nearest others,
    the earlier address if equal. The median is that without weights. Of two values equally near to it the smaller one
    is nearer, and of equal values the one of more weight. f is never lowered: a round needs n ≥ 4f + 3 rows.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; a round needs 4f + 3 updates that count.
    """

    @property
    def least_rows(self) -> int:
        """4f + 3: with fewer rows, hostile values may be most of those near the median."""
        return 4 * self.f + 3

    def _second(self, count: int) -> CoordinateRule:
        """Return the rule that averages so many values near their median."""
        return NearMedian(count, is_weighted=True)


class _Left:
    """The rows that are left to Krum, and the summed distance of each to its nearest ones.

    With m rows left, a row's score is over the m − f − 1 least of its distances, of which its own, 0, is one. When a
    row goes, that is one distance less: the one to it, or else the largest. So all turns together take as many steps as
    there are pairs, and not as many as there are triples.
    """

    def __init__(self, distances: NDArray[Any], f: int) -> None:
        n = len(distances)
        self._distances, self._rows = distances, np.arange(n)
        self._order = np.argsort(distances, axis=1, kind="stable")
        self._rank = np.empty_like(self._order)
        np.put_along_axis(self._rank, self._order, self._rows[None, :], axis=1)
        self._is_left = np.ones(n, np.bool_)
        # The place, in the order of each row's distances, of the last one that counts.
        self._last = np.full(n, n - f - 2)
        counted = np.take_along_axis(distances, self._order[:, : n - f - 1], axis=1)
        # Sums of so many distances do not fit in 64 bits.
        self._scores: NDArray[Any] = counted.astype(object).sum(axis=1)

    def take(self) -> int:
        """Take the row of the least score, the first of equal ones."""
        left = np.flatnonzero(self._is_left).tolist()
        best = min(left, key=self._scores.__getitem__)
        self._is_left[best] = False
        largest = self._distances[self._rows, self._at_last()]
        is_counted = self._rank[:, best] <= self._last
        self._scores = self._scores - np.where(is_counted, self._distances[:, best], largest).astype(object)
        self._last = np.maximum(self._last - ~is_counted, -1)
        # The last one that counts is the distance to a row that is left.
        while (gone := (self._last >= 0) & ~self._is_left[self._at_last()]).any():
            self._last = self._last - gone
        return best

    def _at_last(self) -> NDArray[Any]:
        """Return to which row each row's last distance that counts is; to any where none does."""
        return self._order[self._rows, np.maximum(self._last, 0)]  # type: ignore[no-any-return]
