"""The hyperbolic tangent in whole numbers: the same on every processor."""

from __future__ import annotations

from fractions import Fraction

ONE = 1 << 30
_BITS = 64
_UNIT = 1 << _BITS
_LN_2 = 12_786_308_645_202_655_660
"""ln 2 · 2^64, rounded."""
_TERMS = 24
_FLAT = 32
"""From here on the tangent is 1 by more digits than are told."""


def tanh(value: Fraction) -> int:
    """Return tanh(x) = (1 − e^(−2x)) / (1 + e^(−2x)) of x ≥ 0 out of 2^30, rounded down.

    e^(−y) is 2^(−k) e^(−f), with y = k ln 2 + f and 0 ≤ f < ln 2, and the series of e^(−f) has 24 terms, which leave
    less than 2^−80.
    """
    if value >= _FLAT:
        return ONE
    halvings, rest = divmod(int(2 * value * _UNIT), _LN_2)
    power, total = _UNIT, 0
    for term in range(1, _TERMS + 1):
        total += power
        power = -(power * rest) // (term * _UNIT)
    decay = total >> halvings
    return (_UNIT - decay) * ONE // (_UNIT + decay)
