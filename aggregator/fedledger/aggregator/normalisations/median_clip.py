"""Clipping to the round's median norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Annotated, ClassVar

import numpy as np

from fedledger.aggregator.normalisations.base import NORMALISATIONS
from fedledger.aggregator.normalisations.clipping import squared_norms
from fedledger.protocol.arithmetic.exact import IntArray, divide_round
from fedledger.protocol.methods.parameters import Checked, Real

PPM = 1_000_000
_ONE = 1 << 22
"""The integer that stands for a scale of 1: its product with a value of at most 2^40 fits."""


@NORMALISATIONS.register("median_clip@1")
@dataclass(frozen=True)
class MedianClip(Checked):
    """Clips each update to a multiple of the round's median Euclidean norm, of those that are not zero.

    δ ← δ · min(1, C / ‖δ‖) with C = ``factor`` times the median norm (the mean of the middle two for an even number),
    after McMahan et al. 2018 (https://arxiv.org/abs/1710.06963), whose bound is fixed. Nobody can drown the others, and
    what a minority sends moves the bound no further than honest norms spread. It is exact: norms are rounded to whole
    units of the fixed point, the scale of an update down to a multiple of 2^-22, and each coordinate once, halves to
    even.

    Parameters
    ----------
    factor
        Largest norm, as a multiple of the median, in whole parts per million.
    """

    factor: Annotated[float, Real(0.001, 1000)] = 1.5
    trusts_claims: ClassVar[bool] = False

    def __call__(
        self, deltas: IntArray, steps: Sequence[int], examples: Sequence[int], bound: int, unit: int = 1
    ) -> IntArray:
        squares = squared_norms(deltas)
        ordered = sorted(square for square in squares if square)
        if not ordered:
            return deltas
        middle = isqrt(ordered[(len(ordered) - 1) // 2]) + isqrt(ordered[len(ordered) // 2])
        most = middle * round(self.factor * PPM) // (2 * PPM)
        long = [i for i, square in enumerate(squares) if square > most * most]
        if not long:
            return deltas
        # A norm is rounded up, so that what is left is not above the bound.
        scales = np.array([most * _ONE // (isqrt(squares[i] - 1) + 1) for i in long])
        clipped = deltas.copy()
        clipped[long] = divide_round((deltas[long] * scales[:, None]).ravel(), _ONE).reshape(len(long), -1)
        return clipped
