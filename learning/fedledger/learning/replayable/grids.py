"""Grids of numbers: multiples of a power of two, on which sums and products of matrices are exact."""

from __future__ import annotations

import math

import torch

DOUBLE_BITS, SINGLE_BITS = 53, 24
"""Up to 2^53 and 2^24, float64 and float32 hold every whole number."""
ACTIVATION_LIMIT = 16.0
"""Inputs, and what a layer hands on, are cut to at most this."""


def rounder(bits: int, dtype: torch.dtype = torch.float64) -> float:
    """Return C, so that x + C − C is x rounded to a multiple of 2^−bits, halves to even.

    Both steps are IEEE additions, so every processor gives the same. It holds for |x| < 2^(51 − bits) in float64 and
    |x| < 2^(22 − bits) in float32: there, x + C lies where numbers of the type are 2^−bits apart.
    """
    digits = DOUBLE_BITS if dtype == torch.float64 else SINGLE_BITS
    return math.ldexp(1.5, digits - 1 - bits)


def exponent(total: float, room: float, terms: int, most: int) -> int:
    """Return the finest grid on which a sum stays exact.

    Parameters
    ----------
    total
        Sum of the magnitudes of ``terms`` numbers, before they are rounded to the grid.
    room
        What the sum of their magnitudes may be in units of the grid, afterwards.
    terms
        How many numbers.
    most
        Largest exponent.

    Returns
    -------
    The largest e ≤ ``most`` with total · 2^e + min(terms / 2, total · 2^e) ≤ room. Rounding moves a number by at most
    half a unit and at most by itself, so this bounds the sum of what is rounded to multiples of 2^−e.
    """
    if total == 0:
        return most
    found = min(most, math.frexp(room / total)[1] - 1)
    units = math.ldexp(total, found)
    return found if units + min(terms / 2, units) <= room else found - 1


def scaled_rate(rate: float, count: int) -> tuple[float, int]:
    """Return c in [1/2, 1) and k, so that rate / count = c · 2^−k.

    Gradients take up c where they arise. What is left of the learning rate is a power of two, by which a product is
    exact, whether a processor rounds it before it is added or not.
    """
    fraction, power = math.frexp(rate / count)
    return fraction, -power
