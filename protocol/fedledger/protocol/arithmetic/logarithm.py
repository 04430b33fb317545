"""Logarithms of whole numbers, in whole numbers: the same on every processor."""

from __future__ import annotations

LN_2_PPM = 693_147
_LOG_BITS = 20


def ln_ppm(value: int) -> int:
    """Return the natural logarithm of a whole number of at least 1, in parts per million, by squaring alone."""
    exponent = value.bit_length() - 1
    mantissa = (value << 62) >> exponent
    bits = exponent
    for _ in range(_LOG_BITS):
        mantissa = mantissa * mantissa >> 62
        carry = mantissa >> 63
        mantissa >>= carry
        bits = bits << 1 | carry
    return bits * LN_2_PPM >> _LOG_BITS
