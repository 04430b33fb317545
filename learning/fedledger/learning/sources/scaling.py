"""Scaling of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDING = 2.0**-45
"""A deviation of so small a share of the largest value is what adding doubles leaves of a constant."""


def standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns with mean 0 and deviation 1, float64[n, d]; one that is constant but for rounding becomes 0."""
    with np.errstate(all="ignore"):
        spread = values.std(axis=0)
        varies = spread > ROUNDING * np.abs(values).max(axis=0, initial=0)
        scaled = (values - values.mean(axis=0)) / np.where(varies, spread, 1.0)
        return np.where(varies, scaled, 0.0)
