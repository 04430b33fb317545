"""The rows that a mixing makes, in integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.mixings.base import Mixing
from fedledger.protocol.arithmetic import exact
from fedledger.protocol.arithmetic.division import whole_quotient
from fedledger.protocol.arithmetic.exact import Float64Array, Gram, IntArray

MAX_SHARE = exact.MAX_ROWS
"""Largest number of which mixed rows are parts."""
MAX_WEIGHT = 1 << 26
"""So that a row's coefficients, each a weight times at most 2^11 rows, have a sum of at most 2^48."""
_LARGEST = 1 << 20
"""Largest common denominator of mixed rows that a combination of them has."""
_ONE = 1 << 40
"""The integer that stands for a coefficient of 1 where mixed rows have none."""


def require_weights(weights: Sequence[int]) -> None:
    """Check that rows of such weights can be mixed exactly.

    Raises
    ------
    OutOfRangeError
        If a weight is too large.
    """
    if max(weights) > MAX_WEIGHT:
        raise exact.OutOfRangeError("The weights of mixed rows are too large.", "Scale the weights down.")


@dataclass(frozen=True)
class Mixture:
    """Mixed row i times ``share`` is ``share`` / ``totals[i]`` · Σ_j ``matrix[i, j]`` · row j.

    Where all totals equal the share that is whole; elsewhere it is rounded once, halves to even. ``weights`` are those
    of the mixed rows.
    """

    matrix: IntArray
    totals: Sequence[int]
    share: int
    weights: Sequence[int]

    @classmethod
    def of(cls, mixer: Mixing, products: Gram, weights: Sequence[int]) -> Mixture:
        """Return the mixture of as many rows as there are weights; rows beyond those stay as they are."""
        n, shared = len(weights), gcd(*weights)
        matrix = mixer.coefficients(products[:n, :n], [weight // shared for weight in weights])
        matrix //= np.gcd.reduce(matrix, axis=1, keepdims=True)
        share, totals = mixer.share(n), matrix.sum(axis=1, keepdims=True)
        if not (share % totals).any():
            matrix *= share // totals
        mixed = cls(matrix, matrix.sum(axis=1).tolist(), share, mixer.weights(matrix, weights))
        return mixed.beside(max(0, len(products) - n))

    def beside(self, count: int) -> Mixture:
        """Return the mixture of so many rows more, which stay as they are."""
        if not count:
            return self
        kept = self.share * np.eye(count, dtype=np.int64)
        rows, columns = self.matrix.shape
        matrix = np.block(
            [
                [self.matrix, np.zeros((rows, count), np.int64)],
                [np.zeros((count, columns), np.int64), kept],
            ]
        )
        return Mixture(matrix, [*self.totals, *[self.share] * count], self.share, self.weights)

    @cached_property
    def is_whole(self) -> bool:
        """Whether the mixed rows times the share are sums of rows."""
        return all(total == self.share for total in self.totals)

    def rows(self, block: Float64Array) -> Float64Array | IntArray:
        """Return columns [n, d'] of the mixed rows times the share, given those of the rows as whole doubles."""
        if self.is_whole:
            return exact.small_product(self.matrix, block)
        return exact.weighted_means(block, self.share * self.matrix, self.totals)

    def gram(self, products: Gram) -> Gram:
        """Return the inner products of the mixed rows times the share; exact, or rounded once, halves to even."""
        wide, rest = self.matrix.astype(np.float64), products.astype(object)
        total = _product(wide, _product(wide, rest).T)
        if self.is_whole:
            return total
        scales = np.array(self.totals, object)
        denominators: NDArray[Any] = scales[:, None] * scales[None, :]
        doubled = 2 * self.share * self.share * total
        nearest: NDArray[Any] = (doubled + denominators) // (2 * denominators)
        is_half = (doubled + denominators) % (2 * denominators) == 0
        even: NDArray[Any] = nearest - (is_half & (nearest % 2 == 1))
        return even

    def combined(self, coefficients: Sequence[int], denominator: int) -> tuple[list[int], int]:
        """Return what a combination of the mixed rows is of the rows, exact or rounded to 2^-40."""
        common = lcm(*self.totals)
        if common <= _LARGEST:
            scales = np.array(
                [c * (common // total) for c, total in zip(coefficients, self.totals, strict=True)], object
            )
            return list(scales @ self.matrix.astype(object)), denominator * common
        totals = [denominator * total for total in self.totals]
        return [
            sum(
                whole_quotient(_ONE * coefficient * entry, total)
                for coefficient, entry, total in zip(coefficients, column, totals, strict=True)
                if entry
            )
            for column in self.matrix.T.tolist()
        ], _ONE


def _product(left: Float64Array, right: NDArray[Any]) -> NDArray[Any]:
    """Return the exact product of integers below 2^53, whose rows sum to at most 2^48, and Python integers."""
    bits = 52 - int(left.sum(axis=1).max()).bit_length()
    total: NDArray[Any] = np.zeros((len(left), right.shape[1]), object)
    rest, shift = right, 0
    while (rest != 0).any():
        limb = ((rest + (1 << (bits - 1))) & ((1 << bits) - 1)) - (1 << (bits - 1))
        total = total + ((left @ limb.astype(np.float64)).astype(np.int64).astype(object) << shift)
        rest, shift = (rest - limb) >> bits, shift + bits
    return total
