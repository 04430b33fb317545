"""Figures of how fair rewards are."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite

import numpy as np
from scipy import stats

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Real, real


def pearson(contributions: Sequence[float], rewards: Sequence[float]) -> float:
    """Return Pearson's correlation of contributions and rewards, from −1 to 1.

    Raises
    ------
    ConfigError
        If there are fewer than two pairs, a number is not finite, or either does not vary.
    """
    first, second = _pair(contributions, rewards)
    return float(stats.pearsonr(first, second).statistic)


def spearman(contributions: Sequence[float], rewards: Sequence[float]) -> float:
    """Return Spearman's correlation of contributions and rewards: Pearson's of ranks, where ties share the mean rank.

    Raises
    ------
    ConfigError
        If there are fewer than two pairs, a number is not finite, or either does not vary.
    """
    first, second = _pair(contributions, rewards)
    return float(stats.spearmanr(first, second).statistic)


def jain(values: Sequence[float]) -> float:
    """Return the index of Jain, Chiu and Hawe (1984), (Σ x)² / (n·Σ x²): 1 if all are equal, 1 / n if one has all.

    Raises
    ------
    ConfigError
        If there is none, one is negative or not finite, or all are 0.
    """
    shares = _shares(values)
    return float(1 / (len(shares) * (shares**2).sum()))


def gini(values: Sequence[float]) -> float:
    """Return Gini's coefficient, Σ_i Σ_j |x_i − x_j| / (2·n²·mean): 0 if all are equal, 1 − 1 / n if one has all.

    Raises
    ------
    ConfigError
        If there is none, one is negative or not finite, or all are 0.
    """
    shares = np.sort(_shares(values))
    ranks = np.arange(1, len(shares) + 1)
    return float(((2 * ranks - len(shares) - 1) * shares).sum() / len(shares))


def worst_mean(values: Sequence[float], share: float = 0.1) -> float:
    """Return the mean of the lowest ``share`` of values, of at least one; their number is rounded up.

    Raises
    ------
    ConfigError
        If there is none, one is not finite, or the share is not above 0 and at most 1.
    """
    numbers = np.sort(_finite(values, 1))
    part = real("share", share, Real(0, 1, above=True))
    # What floats add to a product that is whole is no further value.
    return float(numbers[: max(1, ceil(len(numbers) * part - 1e-9))].mean())


def variance(values: Sequence[float]) -> float:
    """Return the variance of values, divided by their number.

    Raises
    ------
    ConfigError
        If there is none, or one is not finite.
    """
    return float(_finite(values, 1).var())


def _finite(values: Sequence[float], least: int) -> np.ndarray:
    if len(values) < least or not all(isfinite(value) for value in values):
        raise ConfigError(f"These are not {least} or more finite numbers.", "Give such numbers.")
    return np.array(values, dtype=np.float64)


def _shares(values: Sequence[float]) -> np.ndarray:
    """Return values over their sum, after scaling by the largest so that nothing overflows."""
    numbers = _finite(values, 1)
    if numbers.min() < 0 or numbers.max() == 0:
        raise ConfigError("A number is negative, or all are 0.", "Give numbers of at least 0, and one above.")
    scaled = numbers / numbers.max()
    return np.asarray(scaled / scaled.sum())


def _pair(first: Sequence[float], second: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(first) != len(second):
        raise ConfigError("There are not as many rewards as contributions.", "Give one for each.")
    pair = _finite(first, 2), _finite(second, 2)
    if any((each == each[0]).all() for each in pair):
        raise ConfigError(
            "Contributions or rewards are all the same, and correlate with nothing.", "Give some that vary."
        )
    return pair
