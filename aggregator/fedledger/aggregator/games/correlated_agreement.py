"""Correlated Agreement: reports of the same things pay by how much more they agree than reports of different ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedledger.protocol.arithmetic.exact import IntArray


def agreements(reports: IntArray, signals: Sequence[int]) -> list[list[int]]:
    """Return m² (P(both report the same of one thing) − P(both report the same of two things)) of all pairs, [n][n].

    This is the expected payment of Correlated Agreement (Shnayder et al. 2016, https://arxiv.org/abs/1603.03151), which
    rewards a pair of signals (a, b) where Δ(a, b) = P(a, b) − P(a) P(b) is above 0, if each signal goes with itself
    alone, as with Dasgupta and Ghosh 2013: Σ_a Δ(a, a).

    Parameters
    ----------
    reports
        int64[n, m]: of each of n, what it reports of each of m things, less than 2^26.
    signals
        What there is to report.
    """
    count, length = reports.shape
    equal, chance = np.zeros((count, count)), np.zeros((count, count))
    for signal in signals:
        # Whole numbers below 2^53, so that no product of matrices is rounded.
        seen = (reports == signal).astype(np.float64)
        often = seen.sum(axis=1)
        equal += seen @ seen.T
        chance += np.outer(often, often)
    found: list[list[int]] = (length * equal - chance).astype(np.int64).tolist()
    return found
