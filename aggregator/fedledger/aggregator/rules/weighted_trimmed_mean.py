"""Weighted coordinate-wise trimmed mean (after Yin et al. 2018, https://arxiv.org/abs/1803.01498)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.aggregator.rules.base import RULES, CoordinateRule, mean_by_weight, sorted_by_value
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.methods.parameters import Checked, Real

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
        return mean_by_weight(values, counted, total - 2 * cut), 1
