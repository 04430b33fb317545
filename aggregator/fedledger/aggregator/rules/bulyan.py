"""Bulyan (El Mhamdi et al. 2018, https://arxiv.org/abs/1802.07927)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from fedledger.aggregator.context.geometry import squared_distances
from fedledger.aggregator.rules.base import RULES, CoordinateRule, Diagnostics, RuleContext
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
        distances, left, chosen = squared_distances(context.gram).tolist(), list(range(n)), list[int]()
        while len(chosen) < n - 2 * f:
            near = max(len(left) - f - 2, 0)
            # The first of each sorted row is the row's own distance, 0.
            scores = {i: sum(sorted(distances[i][j] for j in left)[1 : near + 1]) for i in left}
            best = min(left, key=lambda i: (scores[i], i))
            left.remove(best)
            chosen.append(best)
        return sorted(chosen), _NearMedian(n - 4 * f)

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        """Average all values of each coordinate, as is right where no update is hostile."""
        return _NearMedian(len(block))(block, weights)

    def diagnostics(self, n: int) -> Diagnostics:
        """Return the f that was used."""
        return {"f": self._tolerated(n)}

    def _tolerated(self, n: int) -> int:
        return max(0, min(self.f, (n - 3) // 4))


@dataclass(frozen=True)
class _NearMedian(CoordinateRule):
    """The mean of the ``count`` values of each coordinate that are nearest the median."""

    count: int

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        rows = len(block)
        ordered = np.sort(block, axis=0)
        middle = ordered[(rows - 1) // 2] + ordered[rows // 2]
        nearest = np.argsort(np.abs(2 * ordered - middle), axis=0, kind="stable")[: self.count]
        total: IntArray = np.take_along_axis(ordered, nearest, axis=0).sum(axis=0)
        return total, self.count
