"""Weighted coordinate-wise trimmed mean (after Yin et al. 2018, https://arxiv.org/abs/1803.01498)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.aggregator.rules.base import RULES, CoordinateRule, sorted_by_value
from fedledger.protocol.arithmetic.exact import IntArray, divide_round
from fedledger.protocol.methods.parameters import Checked, Real

_BITS = 21
"""Values are summed in two limbs, of which the lower one has so many bits."""
PPM = 1_000_000


@RULES.register("weighted_trimmed_mean@1")
@dataclass(frozen=True)
class WeightedTrimmedMean(Checked, CoordinateRule):
    """The weighted mean of each coordinate without the lowest and the highest ``share`` of the weight.

    A row whose weight lies across a limit counts with the part that is within. The sum is exact, and rounded once.

    Parameters
    ----------
    share
        How much of the weight is cut off on either side, in whole parts per million.
    """

    share: Annotated[float, Real(0, 0.5, below=True)]

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        values, upto = sorted_by_value(block, weights)
        total = sum(weights)
        cut = total * min(round(self.share * PPM), PPM // 2 - 1) // PPM
        within = np.clip(upto, cut, total - cut)
        counted = np.diff(within, axis=0, prepend=np.full((1, values.shape[1]), cut, np.int64))
        low = values & ((1 << _BITS) - 1)
        # Weights are at most 2^20 and rows at most 2^12, so either sum of limbs fits in 62 bits.
        upper, lower = (counted * (values >> _BITS)).sum(axis=0), (counted * low).sum(axis=0)
        kept = total - 2 * cut
        quotient, rest = np.divmod(upper, kept)
        mean: IntArray = (quotient << _BITS) + divide_round((rest << _BITS) + lower, kept)
        return mean, 1
