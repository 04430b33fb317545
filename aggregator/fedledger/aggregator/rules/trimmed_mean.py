"""Coordinate-wise trimmed mean (Yin et al. 2018, https://arxiv.org/abs/1803.01498)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from fedledger.aggregator.context.geometry import tolerated
from fedledger.aggregator.context.least_rows import NeedsMajority
from fedledger.aggregator.context.ranks import sum_of_ranks
from fedledger.aggregator.rules.base import (
    RULES,
    CoordinateRule,
    Diagnostics,
    are_equal,
    sorted_by_value,
    summable,
    weighted_limbs,
)
from fedledger.protocol.arithmetic.division import BITS, MASK, divided
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.methods.parameters import Checked, Whole


@RULES.register("trimmed_mean@1")
@dataclass(frozen=True)
class TrimmedMean(CoordinateRule, Checked):
    """The unweighted mean of each coordinate without its f lowest and f highest values.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; lowered to what n > 2f allows.
    """

    f: Annotated[int, Whole(0, 4096)]
    narrow: ClassVar[bool] = True

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        n = len(block)
        f = tolerated(self.f, n)
        return sum_of_ranks(block, f, n - f), n - 2 * f

    def diagnostics(self, n: int) -> Diagnostics:
        """Return the f that was used."""
        return {"f": tolerated(self.f, n)}


@RULES.register("trimmed_mean@2")
@dataclass(frozen=True)
class StrictTrimmedMean(TrimmedMean, NeedsMajority):
    """The weighted mean of each coordinate without the lowest and the highest f / n of the weight.

    With n rows that is f rows' worth of weight on either side. A row whose weight lies across a limit counts with the
    part that is within. The sum is exact, and rounded once. f is never lowered: a round needs n > 2f rows.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; a round needs 2f + 1 updates that count.
    """

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        if are_equal(weights):
            return super().__call__(block, weights)
        n, f, reduced = len(block), tolerated(self.f, len(block)), summable(weights)
        values, upto = sorted_by_value(block, reduced)
        total = sum(reduced)
        # The limit lies at f · total / n: so many whole units of the weight, and the n-th parts of one more.
        whole, parts = divmod(f * total, n)
        within = np.clip(upto, whole, total - whole)
        counted = np.diff(within, axis=0, prepend=np.full((1, values.shape[1]), whole, np.int64))
        upper, lower = weighted_limbs(values, counted)
        columns = np.arange(values.shape[1])
        # Of the outermost unit on either side, n-th parts are beyond the limit.
        lowest = values[(upto <= whole).sum(axis=0), columns]
        highest = values[(upto < total - whole).sum(axis=0), columns]
        beyond, carried = lowest + highest, upper + (lower >> BITS)
        limbs = [
            n * (lower & MASK) - parts * (beyond & MASK),
            n * (carried & MASK) - parts * (beyond >> BITS),
            n * (carried >> BITS),
        ]
        return divided(limbs, (n - 2 * f) * total), 1
