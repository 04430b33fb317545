"""All coordinates, as they are."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np

from fedledger.protocol.arithmetic.exact import FixedPoint, Float32Array, IntArray, magnitude
from fedledger.protocol.codecs.base import CODECS, Tensor
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict


@CODECS.register("dense@1")
@dataclass(frozen=True)
class Dense:
    """Sends every coordinate as a float32, which the receiver rounds to fixed point."""

    def check(self, length: int) -> None:
        """Accept any length."""

    def encode(self, values: Float32Array, fixed: FixedPoint) -> Tensor:
        """Return the values as they are."""
        return values

    def decode(self, sent: Tensor, length: int, fixed: FixedPoint) -> IntArray:
        """Return float32[n] in fixed point, rounded half to even; see `Codec`."""
        values, largest = finite_floats(sent, length, "coordinate")
        if largest > fixed.bound:
            raise UpdateRefusedError(Verdict.OUT_OF_RANGE, f"a coordinate is beyond ±{fixed.bound}")
        return fixed.rounded(values)

    def largest(self, length: int) -> Tensor:
        """Return float32[n]."""
        return np.zeros(length, np.float32)


def finite_floats(sent: Tensor, length: int, what: str) -> tuple[Float32Array, float]:
    """Return a stranger's tensor as finite float32[n], and the largest magnitude in it.

    Parameters
    ----------
    sent
        The tensor.
    length
        Number of coordinates n.
    what
        What one of them is called in the reason.

    Raises
    ------
    UpdateRefusedError
        ``wrong_shape`` or ``not_finite``.
    """
    if sent.dtype != np.float32 or sent.shape != (length,):
        raise UpdateRefusedError(Verdict.WRONG_SHAPE, f"{sent.dtype}{list(sent.shape)}, not float32[{length}]")
    values = sent.astype(np.float32, copy=False)
    largest = magnitude(values)
    if not isfinite(largest):
        raise UpdateRefusedError(Verdict.NOT_FINITE, f"a {what} is not a finite number")
    return values, largest
