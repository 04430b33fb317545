"""Coordinate-wise median (Yin et al. 2018, https://arxiv.org/abs/1803.01498)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedledger.aggregator.context.ranks import sum_of_ranks
from fedledger.aggregator.rules.base import RULES, CoordinateRule
from fedledger.protocol.arithmetic.exact import IntArray


@RULES.register("median@1")
@dataclass(frozen=True)
class Median(CoordinateRule):
    """The unweighted median of each coordinate; the mean of the middle two for an even number of rows."""

    narrow: ClassVar[bool] = True

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        low, high = (len(block) - 1) // 2, len(block) // 2 + 1
        return sum_of_ranks(block, low, high), high - low
