"""Weighted coordinate-wise median, under the name that it had first."""

from __future__ import annotations

from dataclasses import dataclass

from fedledger.aggregator.rules.base import RULES
from fedledger.aggregator.rules.median import MedianByWeight


@RULES.register("weighted_median@1")
@dataclass(frozen=True)
class WeightedMedian(MedianByWeight):
    """The value of each coordinate with half of the weight on either side.

    Where the weights split evenly between two values, their mean; so with equal weights it is the median (the
    one-dimensional case of the geometric median, Pillutla et al. 2022, https://arxiv.org/abs/1912.13445).
    """
