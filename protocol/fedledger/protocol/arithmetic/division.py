"""Division of integers of many bits, elementwise and rounded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BITS = 21
"""Of a limb."""
MASK = (1 << BITS) - 1
_LARGE = 1 << 12
_QUOTIENTS = 1 << 50


def whole_quotient(numerator: int, denominator: int) -> int:
    """Return the quotient of Python integers, rounded half to even."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1))


def divided(limbs: Sequence[NDArray[np.int64]], denominator: int) -> NDArray[np.int64]:
    """Return Σ limbs[k] · 2^(21k), int64[d] each, divided by 1 to 2^61 − 1 and rounded half to even."""
    if len(limbs) == 1 and max(int(limbs[0].max(initial=0)), -int(limbs[0].min(initial=0))) < _QUOTIENTS:
        # A quotient that is no half is 1 / 2d or more from one, and a double is nearer than that to the quotient.
        return np.rint(limbs[0] / np.float64(denominator)).astype(np.int64)
    if len(limbs) == 1 and denominator >= _LARGE:
        return _divide_by_large(limbs[0], denominator)
    carried = np.zeros_like(limbs[0])
    low: list[NDArray[np.int64]] = []
    for limb in limbs[:-1]:
        carried = limb + carried
        low.append(carried & MASK)
        carried = carried >> BITS
    top = limbs[-1] + carried
    quotient = top // denominator
    remainder = top - quotient * denominator
    # The remainder is below the denominator, and so many bits may join it within 62.
    step = next(s for s in (21, 7, 3, 1) if denominator.bit_length() + s <= 62)
    for limb in reversed(low):
        for shift in range(BITS - step, -1, -step):
            part = (remainder << step) + ((limb >> shift) & ((1 << step) - 1))
            digit = part // denominator
            remainder = part - digit * denominator
            quotient = (quotient << step) + digit
    twice = 2 * remainder
    up = (twice > denominator) | ((twice == denominator) & (quotient & 1 == 1))
    result: NDArray[np.int64] = quotient + up
    return result


def _divide_by_large(total: NDArray[np.int64], denominator: int) -> NDArray[np.int64]:
    """Divide int64[d] by at least 2^12 and round half to even.

    The quotient is below 2^51, so that the quotient of doubles is off by less than 1/2, and the rounded one by 1 at
    most; its remainder, which is exact, tells where.
    """
    quotient: NDArray[np.int64] = np.rint(total / np.float64(denominator)).astype(np.int64)
    twice = (total - quotient * denominator) << 1
    (odd,) = np.nonzero((twice >= denominator) | (twice <= -denominator))
    if len(odd):
        over, sign = np.abs(twice[odd]) - denominator, np.sign(twice[odd])
        quotient[odd] += np.where((over > 0) | (quotient[odd] & 1 == 1), sign, 0)
    return quotient
