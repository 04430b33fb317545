"""Coordinate-wise trimmed mean (Yin et al. 2018, https://arxiv.org/abs/1803.01498)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.context.geometry import tolerated
from fedledger.aggregator.context.ranks import sum_of_ranks
from fedledger.aggregator.rules.base import RULES, CoordinateRule, Diagnostics
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
