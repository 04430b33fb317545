"""The area under the receiver operating characteristic, counted exactly in half pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def half_pairs(scores: NDArray[np.float64], flags: NDArray[np.bool_]) -> int:
    """Return 2 · (pairs in which the flagged example scores higher) + (pairs that are equal).

    A pair is one flagged and one other example. Divided by :func:`all_half_pairs` this is the area under the curve
    (Hanley and McNeil 1982). A score of NaN is higher than none and equal to none, so that its pairs count nothing.

    Parameters
    ----------
    scores
        float64[n].
    flags
        bool[n].
    """
    known = ~np.isnan(scores)
    flagged, others = scores[flags & known], np.sort(scores[~flags & known])
    lower = np.searchsorted(others, flagged, "left").sum(dtype=np.int64)
    not_higher = np.searchsorted(others, flagged, "right").sum(dtype=np.int64)
    return int(lower) + int(not_higher)


def all_half_pairs(flagged: int, n: int) -> int:
    """Return twice the number of pairs of one of ``flagged`` examples and one of the others of ``n``."""
    return 2 * flagged * (n - flagged)


def tolerated_half_pairs(full: int) -> int:
    """Return how many of ``full`` half pairs another machine may count otherwise.

    Rounding moves outputs by about 10⁻⁶ of their spread, and as large a part of the pairs is that near to a tie: a
    hundred times that, and at least two pairs.
    """
    return max(4, full // 10_000)
