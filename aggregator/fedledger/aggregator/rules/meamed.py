"""Mean around the median (Xie et al. 2018, https://arxiv.org/abs/1802.10116)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.context.least_rows import NeedsMajority
from fedledger.aggregator.rules.base import RULES, CoordinateRule, RuleContext
from fedledger.aggregator.rules.near_median import NearMedian
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.methods.parameters import Checked, Whole


@RULES.register("meamed@1")
@dataclass(frozen=True)
class MeanAroundMedian(Checked, NeedsMajority, CoordinateRule):
    """The weighted mean of the n − f values of each coordinate that are nearest their median.

    The median is that without weights. Of two values equally near to it the smaller one is nearer, and of equal values
    the one of more weight.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; a round needs 2f + 1 updates that count.
    """

    f: Annotated[int, Whole(0, 4096)]

    def first_stage(self, context: RuleContext) -> tuple[None, CoordinateRule]:
        """Return all rows, and the mean near the median for so many."""
        return None, NearMedian(len(context.weights) - self.f, is_weighted=True)

    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        return NearMedian(len(block) - self.f, is_weighted=True)(block, weights)
