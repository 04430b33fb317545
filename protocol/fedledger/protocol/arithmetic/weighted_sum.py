"""The exact sum of vectors that come one after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedledger.protocol.arithmetic.division import BITS, MASK
from fedledger.protocol.arithmetic.exact import (
    FixedPoint,
    Float32Array,
    IntArray,
    OutOfRangeError,
    divide_limbs,
    magnitude,
)

_HALF = 1 << (BITS - 1)
_EXACT = 1 << 53


class WeightedSum:
    """The exact sum of weighted vectors that come one after another, in any order and in any number of parts.

    Parameters
    ----------
    fixed
        The vectors' fixed-point format.
    dimension
        Number of coordinates d.
    weights
        Sum of all weights that will be added, to this sum and to those that are merged into it.
    limbs
        Where to sum, int64[k, d] of zeros with k = ``limbs_needed(fixed, weights)``; made if not given.

    Raises
    ------
    OutOfRangeError
        If the weights are too large for an exact sum.
    """

    def __init__(self, fixed: FixedPoint, dimension: int, weights: int, limbs: IntArray | None = None) -> None:
        self.fixed = fixed
        self.limbs = np.zeros((limbs_needed(fixed, weights), dimension), np.int64) if limbs is None else limbs
        self.weight = 0
        self._unit, self._short = np.float32(fixed.unit), fixed.bound**2 / 4
        self._scaled = np.empty(dimension, np.float32)
        self._whole = np.empty(dimension, np.int64)

    def add(self, x: Float32Array, weight: int) -> None:
        """Add float32[d], rounded as :meth:`FixedPoint.quantise` does, times an integer weight of at least 0.

        Raises
        ------
        NotFiniteError, OutOfRangeError
            As :meth:`FixedPoint.quantise`; the sum is as it was then.
        """
        scaled, whole = self._scaled, self._whole
        # A vector of half that length has no coordinate beyond the bound, however inexact its length is.
        with np.errstate(over="ignore", invalid="ignore"):
            is_short = x.dot(x) <= self._short
        if not is_short:
            self.fixed.quantise(x)
        # A power of two, so the product is exact; and a float32 is rounded to the same integer as its double.
        np.multiply(x, self._unit, out=scaled)
        np.rint(scaled, out=whole, casting="unsafe")
        self._add(whole, weight)
        self.weight += weight

    def _add(self, whole: IntArray, weight: int) -> None:
        if len(self.limbs) == 1:
            np.multiply(whole, weight, out=whole)
            self.limbs[0] += whole
        else:
            low = ((whole + _HALF) & MASK) - _HALF
            self.limbs[0] += low * weight
            self.limbs[1] += ((whole - low) >> BITS) * weight

    def add_rows(self, rows: Float32Array, weights: Sequence[int]) -> None:
        """Add float32[n, d] times n integer weights of at least 0, as :meth:`add` adds one after another.

        Raises
        ------
        NotFiniteError, OutOfRangeError
            As :meth:`add`; the sum is as it was then.
        """
        largest = magnitude(rows)
        if not largest <= self.fixed.bound:
            for row in rows:
                self.fixed.quantise(row)
        # As in add: a float32 holds the product, and the integer that it is rounded to.
        whole = rows * self._unit
        np.rint(whole, out=whole)
        total = sum(weights)
        if len(self.limbs) == 1 and total * (int(largest * self.fixed.unit) + 1) < _EXACT:
            # As every partial sum is, a product of doubles is exact in whatever order it adds up.
            self.limbs[0] += (np.array(weights, np.float64) @ whole.astype(np.float64)).astype(np.int64)
        else:
            for row, weight in zip(whole.astype(np.int64), weights, strict=True):
                self._add(row, weight)
        self.weight += total

    def merge(self, limbs: IntArray, weight: int) -> None:
        """Add what another sum holds."""
        self.limbs += limbs
        self.weight += weight

    def mean(self) -> IntArray:
        """Return int64[d], the sum divided by the weights that were added, rounded half to even."""
        return divide_limbs(list(self.limbs), self.weight)


def limbs_needed(fixed: FixedPoint, weights: int) -> int:
    """Return how many limbs the sum of vectors needs whose weights have the sum ``weights``."""
    if weights * int(fixed.bound * fixed.unit) < 1 << 62:
        return 1
    if weights.bit_length() > 62 - BITS:
        raise OutOfRangeError("The weights of a sum are too large.", "Scale the weights down.")
    return 2
