"""Exponentials and logarithms with the same bits on any processor.

The exponentials are a table that integers make. A logarithm is one power of two and a series of a fixed number of
additions, multiplications and divisions, each by itself.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

STEPS = 12
"""Logits are rounded to multiples of 2^−12."""
LOWEST = 16
"""e^−16 stands for what is smaller."""
TABLE_BITS = 36
"""The table holds multiples of 2^−36, so that sums over up to 2^17 classes are exact in float64."""
MAX_CLASSES = 1 << (53 - TABLE_BITS)
_PRECISION = 160
_TERMS = 8


@cache
def exponentials() -> torch.Tensor:
    """Return e^(−i / 2^12) for i in [0, 2^16), float64, rounded to multiples of 2^−36, halves up."""
    one = 1 << _PRECISION
    # The series of e^(−1 / 2^12), in fixed point.
    ratio = sum((-1) ** i * (one >> STEPS * i) // math.factorial(i) for i in range(14))
    values, value = [], one
    half = 1 << (_PRECISION - TABLE_BITS - 1)
    for _ in range(LOWEST << STEPS):
        values.append(value + half >> _PRECISION - TABLE_BITS)
        value = value * ratio >> _PRECISION
    return torch.from_numpy(np.array(values, np.float64)).mul_(2.0**-TABLE_BITS)


@cache
def _ln2() -> float:
    """Return the logarithm of 2, rounded to 2^−52: Σ 2 / ((2i + 1) 3^(2i + 1)) in fixed point."""
    total = sum((2 << _PRECISION) // ((2 * i + 1) * 3 ** (2 * i + 1)) for i in range(60))
    return float((total + (1 << (_PRECISION - 53)) >> (_PRECISION - 52)) / 2**52)


def logarithm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the natural logarithm of numbers, each above 0, within 2^−40 and the same on any processor.

    With x = m · 2^e and m in [2/3, 4/3), ln x = e · ln 2 + 2 artanh z for z = (m − 1) / (m + 1), |z| ≤ 1/5.
    """
    fraction, power = np.frexp(values)
    low = fraction < 2 / 3
    fraction = np.where(low, fraction * 2.0, fraction)
    z = (fraction - 1.0) / (fraction + 1.0)
    square = z * z
    series = np.full_like(z, 1 / (2 * _TERMS + 1))
    for order in range(_TERMS - 1, -1, -1):
        series *= square
        series += 1 / (2 * order + 1)
    series *= z
    series *= 2.0
    series += (power.astype(np.float64) - low) * _ln2()
    return series
