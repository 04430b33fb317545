"""Short integer copies of vectors, of which inner products and what lies beyond other vectors are exact.

A sketch has 16-bit integers. One of a longer vector adds up its coordinates under signs that look random (Charikar et
al. 2002, https://doi.org/10.1007/3-540-45465-9_59), which keeps inner products up to noise. Products of matrices of
sketches are made of integers below 2^53, so that doubles hold them exactly, in any order of summation.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import Float64Array, IntArray

BITS = 15
"""Magnitudes of a sketch are below 2^15."""
_LANES = 4
_NEAR = 1e-6
"""A vector of which less is left, as a share of its square, follows from the others."""
_FRACTION = 14
_LARGEST = 1 << 24
_ENERGY = 1 << 20


def sketched(rows: IntArray, length: int) -> IntArray:
    """Return int64[n, min(d, length)] of magnitudes below 2^15, each row by itself, of int64[n, d]."""
    return shortened(folded(rows, length))


def folded(rows: IntArray, length: int) -> IntArray:
    """Return int64[n, min(d, length)]: coordinates that are ``length`` apart are added under signs."""
    n, d = rows.shape
    if d <= length:
        return rows
    total = np.zeros((n, length), np.int64)
    signs = _signs(d)
    for start in range(0, d, length):
        part = rows[:, start : start + length] * signs[start : start + length]
        total[:, : part.shape[1]] += part
    return total


def shortened(rows: IntArray) -> IntArray:
    """Return each row of int64[n, k], divided by the power of two that takes it below 2^15."""
    largest = np.abs(rows).max(axis=1, initial=0).tolist()
    shifts = np.array([max(0, int(value).bit_length() - BITS) for value in largest], np.int64)[:, None]
    # Halves are rounded up, except where that would be 2^15.
    rounded: IntArray = np.minimum((rows + ((1 << shifts) >> 1)) >> shifts, (1 << BITS) - 1)
    return rounded


def packed(rows: IntArray) -> IntArray:
    """Return sketches int64[n, k] as int64[n, ⌈k / 4⌉]; see :func:`unpacked`."""
    n, k = rows.shape
    wide = np.zeros((n, -(-k // _LANES) * _LANES), "<i2")
    wide[:, :k] = rows
    return wide.view("<i8").astype(np.int64)


def unpacked(words: IntArray, length: int) -> IntArray:
    """Return the sketches int64[n, length] that :func:`packed` made words of."""
    narrow = np.ascontiguousarray(words, "<i8").view("<i2")
    return narrow[:, :length].astype(np.int64)


class Residuals:
    """What rows hold beyond public vectors.

    Parameters
    ----------
    rows
        Sketches int64[n, k].
    public
        Sketches int64[p, k].

    Attributes
    ----------
    products
        Inner products of the residuals of the rows, each divided by its row's norm, float64[n, n].
    """

    def __init__(self, rows: IntArray, public: IntArray) -> None:
        self._rows, self._public, n = rows, public, len(rows)
        both = np.concatenate([rows, public]).astype(np.float64)
        products: Float64Array = both @ both.T
        norms = np.sqrt(products.diagonal())
        self._norms = np.where(norms > 0, norms, 1.0)
        table = products / (self._norms[:, None] * self._norms[None, :])
        self._swept = _swept(table, n)
        self.products: Float64Array = table[:n, :n]
        self._coefficients: Float64Array = table[n:, :n]

    def energies(self) -> IntArray:
        """Return the share of each coordinate in the square of each residual, int64[n, k] in parts of 2^20."""
        n = len(self._rows)
        scale = self._norms[None, :n] / self._norms[n:, None]
        exact = np.rint(self._coefficients * scale * (1 << _FRACTION)) * self._swept[:, None]
        taken = np.clip(exact, -_LARGEST, _LARGEST).T @ self._public.astype(np.float64)
        left = shortened((self._rows << _FRACTION) - taken.astype(np.int64))
        squares = left * left
        total = np.maximum(squares.sum(axis=1), 1)
        shares: IntArray = squares * _ENERGY // total[:, None]
        return shares


def overlaps(energies: IntArray) -> Float64Array:
    """Return Σ_k e_ik e_jk of shares e of energy, float64[n, n]: the mean squared cosine under random signs."""
    wide = energies.astype(np.float64)
    products: Float64Array = wide @ wide.T
    return products / float(_ENERGY * _ENERGY)


def _swept(table: Float64Array, n: int) -> NDArray[np.bool_]:
    """Sweep the rows from ``n`` on out of a matrix of inner products of unit vectors, in place.

    Afterwards its first n rows and columns are the inner products of what the first n vectors have beyond the others,
    and below them are the coefficients of the others (Goodnight 1979, https://doi.org/10.2307/2683825). The vector of
    which most is left comes first. Returns which of them were swept; the others follow from those.
    """
    swept = np.zeros(len(table) - n, np.bool_)
    for _ in range(len(swept)):
        left = np.where(swept, -1.0, table.diagonal()[n:])
        place = int(left.argmax()) if len(left) else 0
        pivot = float(left[place])
        if pivot < _NEAR:
            break
        k = n + place
        column, row = table[:, k].copy(), table[k] / pivot
        table -= column[:, None] * row[None, :]
        table[k], table[:, k] = row, column / -pivot
        table[k, k] = 1.0 / pivot
        swept[place] = True
    return swept


@lru_cache(maxsize=4)
def _signs(d: int) -> NDArray[np.int64]:
    """Return d signs that look random: bits of SplitMix64 (Steele et al. 2014)."""
    mixed = np.arange(1, d + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    bits: NDArray[np.int64] = ((mixed ^ (mixed >> np.uint64(31))) & np.uint64(1)).astype(np.int64)
    return 2 * bits - 1
