"""Images of another size, averaged so that everybody makes the same numbers of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 64
"""Images that are averaged at once."""


def averaged(images: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """Return images whose every pixel is the mean of the area that it covers in the given ones.

    Pixels of the given ones that lie on a border count by the part that lies within, in whole numbers of the least
    common pieces. So the means of whole numbers are exact but for one division, and all others are added up in one
    order: every machine makes the same of them.

    Parameters
    ----------
    images
        float32 or int64[n, ..., rows, columns].
    height, width
        Rows and columns that they are to have; there may be more than before.

    Returns
    -------
    numpy.ndarray
        float32[n, ..., height, width].
    """
    found = np.empty((*images.shape[:-2], height, width), np.float32)
    area = images.shape[-2] * images.shape[-1]
    for start in range(0, len(images), AT_ONCE):
        part = images[start : start + AT_ONCE].astype(np.float64)
        rows = _summed(part.swapaxes(-1, -2), height).swapaxes(-1, -2)
        found[start : start + AT_ONCE] = _summed(rows, width) / area
    return found


def _summed(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return sums [..., size] over the last axis [..., m]: each of its m values has ``size`` pieces, each sum m."""
    given = values.shape[-1]
    found = np.zeros((*values.shape[:-1], size))
    for place in range(given):
        first, last = place * size // given, -(-(place + 1) * size // given)
        for target in range(first, last):
            pieces = min((place + 1) * size, (target + 1) * given) - max(place * size, target * given)
            found[..., target] += pieces * values[..., place]
    return found
