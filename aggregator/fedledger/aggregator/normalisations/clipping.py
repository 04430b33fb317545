"""Clipping of updates to a Euclidean norm, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import numpy as np

from fedledger.protocol.arithmetic.exact import LIMIT, IntArray, gram, scaled

_BITS = 60
_ROOM = 1 << 62


def squared_norms(rows: IntArray) -> list[int]:
    """Return the exact squares of the Euclidean norms of int64[n, d]."""
    largest = max(int(rows.max(initial=0)), -int(rows.min(initial=0)))
    if largest <= LIMIT and largest * largest * rows.shape[1] < _ROOM:
        return np.einsum("ij,ij->i", rows, rows).tolist()  # type: ignore[no-any-return]
    return [int(gram(row[None])[0, 0]) for row in rows]


def clipped(rows: IntArray, squares: Sequence[int], most: int) -> IntArray:
    """Return int64[n, d] whose rows are no longer than ``most``, each coordinate rounded once, halves to even.

    Parameters
    ----------
    rows
        int64[n, d], of magnitude at most 2^40; they are not changed, and returned if none is longer.
    squares
        The squares of their norms.
    most
        The largest norm.
    """
    long = [i for i, square in enumerate(squares) if square > most * most]
    if not long:
        return rows
    shortened = rows.copy()
    for i in long:
        # The norm to 60 bits, rounded up.
        bits = max(0, _BITS - isqrt(squares[i]).bit_length())
        norm = isqrt((squares[i] << 2 * bits) - 1) + 1
        shortened[i] = scaled(rows[i], most << bits, norm)
    return shortened
