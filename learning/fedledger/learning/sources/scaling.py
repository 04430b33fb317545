"""Scaling of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns with mean 0 and deviation 1, float64[n, d]; a constant column becomes 0."""
    with np.errstate(all="ignore"):
        spread = values.std(axis=0)
        return np.asarray((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0))
