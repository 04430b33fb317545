"""Clipping to a fixed norm (McMahan et al. 2018, https://arxiv.org/abs/1710.06963)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.normalisations.base import NORMALISATIONS
from fedledger.aggregator.normalisations.clipping import clipped, squared_norms
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.methods.parameters import Checked, Real


@NORMALISATIONS.register("norm_clip@1")
@dataclass(frozen=True)
class NormClip(Checked):
    """Clips each update to a fixed Euclidean norm M: δ ← δ · min(1, M / ‖δ‖).

    It is exact, rounded once a coordinate, halves to even.

    Parameters
    ----------
    norm
        M, in units of the model's parameters.
    """

    norm: Annotated[float, Real(0, 1e12, above=True)]
    trusts_claims: ClassVar[bool] = False

    def __call__(
        self, deltas: IntArray, steps: Sequence[int], examples: Sequence[int], bound: int, unit: int = 1
    ) -> IntArray:
        return clipped(deltas, squared_norms(deltas), round(self.norm * unit))
