"""Adaptive robust clipping (Allouah et al. 2024, https://arxiv.org/abs/2405.14432)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Annotated, ClassVar

from fedledger.aggregator.context.least_rows import NeedsMajority
from fedledger.aggregator.normalisations.base import NORMALISATIONS
from fedledger.aggregator.normalisations.clipping import clipped, squared_norms
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.methods.parameters import Checked, Whole


@NORMALISATIONS.register("arc@1")
@dataclass(frozen=True)
class AdaptiveRobustClipping(Checked, NeedsMajority):
    """Clips the ⌊2 (f / n) (n − f)⌋ longest of n updates to the norm of the longest one that is left.

    It is meant before a rule that is robust against f hostile updates. It is exact: the norm is rounded up to whole
    units of the fixed point, and each coordinate once, halves to even.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; a round needs 2f + 1 updates that count.
    """

    f: Annotated[int, Whole(0, 4096)]
    trusts_claims: ClassVar[bool] = False

    def __call__(
        self, deltas: IntArray, steps: Sequence[int], examples: Sequence[int], bound: int, unit: int = 1
    ) -> IntArray:
        n = len(deltas)
        # A round of fewer updates than 2f + 1 moves no model, but its updates are judged.
        if n < self.least_rows:
            return deltas
        squares = squared_norms(deltas)
        longest = sorted(squares)[n - 1 - 2 * self.f * (n - self.f) // n]
        return clipped(deltas, squares, isqrt(longest - 1) + 1 if longest else 0)
