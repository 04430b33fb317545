"""Weighted coordinate-wise median."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedledger.aggregator.rules.base import RULES, CoordinateRule, sorted_by_value
from fedledger.protocol.arithmetic.exact import IntArray


@RULES.register("weighted_median@1")
@dataclass(frozen=True)
class WeightedMedian(CoordinateRule):
    """The value of each coordinate with half of the weight on either side.

    Where the weights split evenly between two values, their mean; so with equal weights it is the median (the
    one-dimensional case of the geometric median, Pillutla et al. 2022, https://arxiv.org/abs/1912.13445).
    """

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        values, upto = sorted_by_value(block, weights)
        doubled, total = 2 * upto, sum(weights)
        low, high = (doubled < total).sum(axis=0), (doubled <= total).sum(axis=0)
        columns = np.arange(values.shape[1])
        middle: IntArray = values[low, columns] + values[high, columns]
        return middle, 2
