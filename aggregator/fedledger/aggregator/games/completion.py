"""A table of low rank, completed where nothing was observed.

It is computed by + − × ÷ on doubles alone, each sum in index order, and rounded at the end: the same on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import LIMIT, IntArray, to_whole

_Doubles = NDArray[np.float64]


def completed(table: IntArray, observed: NDArray[np.bool_], rank: int, penalty: float, steps: int) -> IntArray:
    """Return a table with what was not observed as a product W H of low rank says.

    W and H minimise Σ_observed (U_tc − (W H)_tc)² + λ (‖W‖² + ‖H‖²), with U over its largest magnitude, as far as so
    many steps come in which one is solved for, and then the other (alternating least squares).

    Parameters
    ----------
    table
        U, int64[rounds, columns]; what is not observed is not looked at.
    observed
        bool[rounds, columns].
    rank
        The rank of W H.
    penalty
        λ, above 0.
    steps
        How often each of the two is solved for.
    """
    largest = int(np.abs(np.where(observed, table, 0)).max(initial=0))
    if observed.all() or not largest:
        return np.where(observed, table, 0)
    scaled = np.where(observed, table, 0) / np.float64(largest)
    seen = observed.astype(np.float64)
    rows = len(table)
    # The first factor is the same in all rounds; the others tell rounds apart.
    left = np.array([[1.0 if k == 0 else float((t // k) % 2) - 0.5 for k in range(rank)] for t in range(rows)])
    right = np.zeros((table.shape[1], rank))
    for _ in range(steps):
        right = _solved(left, scaled, seen, penalty)
        left = _solved(right, scaled.T, seen.T, penalty)
    right = _solved(left, scaled, seen, penalty)
    product = np.zeros_like(scaled)
    for k in range(rank):
        product = product + left[:, k][:, None] * right[:, k][None, :]
    # What was not observed should hardly be far beyond what was.
    guessed = to_whole(product * np.float64(largest), min(2 * largest, LIMIT))
    return np.where(observed, table, guessed)


def _solved(factor: _Doubles, table: _Doubles, seen: _Doubles, penalty: float) -> _Doubles:
    """Return each column's x that minimises Σ_t seen_t (table_t − factor_t · x)² + λ ‖x‖², float64[columns, rank].

    factor is float64[n, rank], table and seen are float64[n, columns].
    """
    rank, columns = factor.shape[1], table.shape[1]
    matrix, side = np.zeros((rank, rank, columns)), np.zeros((rank, columns))
    for a in range(rank):
        matrix[a, a] += penalty
    for t in range(len(factor)):
        for a in range(rank):
            side[a] += factor[t, a] * (seen[t] * table[t])
            for b in range(a + 1):
                matrix[a, b] += (factor[t, a] * factor[t, b]) * seen[t]
    # Elimination for all columns at once: positive definite matrices need no other pivots.
    for a in range(rank):
        for b in range(a):
            matrix[b, a] = matrix[a, b]
    for pivot in range(rank):
        for a in range(pivot + 1, rank):
            ratio = matrix[a, pivot] / matrix[pivot, pivot]
            matrix[a] = matrix[a] - ratio[None, :] * matrix[pivot]
            side[a] = side[a] - ratio * side[pivot]
    found = np.zeros((columns, rank))
    for a in range(rank - 1, -1, -1):
        rest = side[a]
        for b in range(a + 1, rank):
            rest = rest - matrix[a, b] * found[:, b]
        found[:, a] = rest / matrix[a, a]
    return found
