"""Coordinate-wise median (Yin et al. 2018, https://arxiv.org/abs/1803.01498)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedledger.aggregator.context.ranks import sum_of_ranks
from fedledger.aggregator.rules.base import RULES, CoordinateRule, are_equal, sorted_by_value
from fedledger.protocol.arithmetic.exact import IntArray


@RULES.register("median@1")
@dataclass(frozen=True)
class Median(CoordinateRule):
    """The unweighted median of each coordinate; the mean of the middle two for an even number of rows."""

    narrow: ClassVar[bool] = True

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        low, high = (len(block) - 1) // 2, len(block) // 2 + 1
        return sum_of_ranks(block, low, high), high - low


@RULES.register("median@2")
@dataclass(frozen=True)
class MedianByWeight(CoordinateRule):
    """The value of each coordinate with half of the weight on either side.

    Where the weights split evenly between two values, their mean; so with equal weights it is the median (the
    one-dimensional case of the geometric median, Pillutla et al. 2022, https://arxiv.org/abs/1912.13445).
    """

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        if are_equal(weights):
            return Median()(block, weights)
        values, upto = sorted_by_value(block, weights)
        total, columns = sum(weights), np.arange(values.shape[1])
        low, high = (upto < (total + 1) // 2).sum(axis=0), (upto <= total // 2).sum(axis=0)
        middle: IntArray = values[low, columns] + values[high, columns]
        return middle, 2
