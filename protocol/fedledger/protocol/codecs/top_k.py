"""The k coordinates of largest magnitude (Aji and Heafield 2017, https://arxiv.org/abs/1704.05021)."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from math import isfinite
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import FixedPoint, Float32Array, IntArray, magnitude, to_whole
from fedledger.protocol.codecs.base import CODECS, Tensor
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import MAX_LENGTH
from fedledger.protocol.methods.parameters import Checked, Whole
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict

Bits = NDArray[np.uint8]
"""One bit an element, the most significant first."""
LN2 = 12_786_308_645_202_655_659
"""⌊ln 2 · 2^64⌋."""


def rice_parameter(length: int, k: int) -> int:
    """Return b = max(0, ⌊log2(ln 2 · length / k)⌋): gaps between k of ``length`` positions have about b low bits."""
    return max(0, (LN2 * length // (k << 64)).bit_length() - 1)


@CODECS.register("top_k@1")
@dataclass(frozen=True, kw_only=True)
class TopK(Checked):
    """Sends the k coordinates of largest magnitude as integers; the others count as 0.

    A coordinate q in fixed point is rounded to v = ⌊q / 2^shift + ½⌋. The k of largest magnitude of v are sent, of
    equal ones those of lower index: first the gaps between their positions in a Rice code of b = ⌊log2(ln 2 · d/k)⌋
    low bits (each gap's quotient in unary, ones ended by a zero, then its low bits), then their values in two's
    complement of ``bits`` bits, at which they saturate; most significant bits first, and zeros up to a whole byte. No
    byte at all stands for a vector that is not finite.

    Parameters
    ----------
    k
        How many coordinates are sent; at most the vector's length.
    bits
        Width of a value.
    shift
        How many low bits of a coordinate in fixed point are rounded away.
    """

    k: Annotated[int, Whole(1, MAX_LENGTH)]
    bits: Annotated[int, Whole(2, 32)] = 16
    shift: Annotated[int, Whole(0, 24)] = 8

    def check(self, length: int) -> None:
        """Raise ConfigError if there are fewer coordinates than k."""
        if self.k > length:
            raise ConfigError(f"top_k@1 sends {self.k} coordinates of {length}.", f"Give a k of at most {length}.")

    def encode(self, values: Float32Array, fixed: FixedPoint) -> Tensor:
        """Return uint8[m]: the values of largest magnitude, which saturate; see `Codec`."""
        if not isfinite(magnitude(values)):
            return np.zeros(0, np.uint8)
        limit = int(fixed.bound * fixed.unit)
        # A power of two, so the product is exact.
        whole = to_whole(values.astype(np.float64) * fixed.unit, limit)
        rounded = (whole + (1 << self.shift >> 1)) >> self.shift
        return self.pack(np.clip(rounded, -(limit >> self.shift), limit >> self.shift))

    def decode(self, sent: Tensor, length: int, fixed: FixedPoint) -> IntArray:
        """Return int64[n], zero where nothing was sent; see `Codec`."""
        if sent.dtype != np.uint8 or sent.ndim != 1:
            raise UpdateRefusedError(Verdict.WRONG_SHAPE, f"{sent.dtype}{list(sent.shape)}, not uint8 of one axis")
        if not len(sent):
            raise UpdateRefusedError(Verdict.NOT_FINITE, "a coordinate is not a finite number")
        values = self.unpack(sent.astype(np.uint8, copy=False), length)
        values <<= self.shift
        if int(np.abs(values).max()) > fixed.bound * fixed.unit:
            raise UpdateRefusedError(Verdict.OUT_OF_RANGE, f"a coordinate is beyond ±{fixed.bound}")
        return values

    def largest(self, length: int) -> Tensor:
        """Return the upper bound uint8[m]: as if the last position were sent."""
        return np.zeros(self._most_bytes(length), np.uint8)

    def pack(self, values: IntArray) -> Bits:
        """Return the bytes uint8[m] that stand for int64[n], whatever their magnitude."""
        b, k, w = rice_parameter(len(values), self.k), self.k, self.bits
        positions = _largest(np.abs(values), k)
        gaps = np.diff(positions, prepend=-1) - 1
        ends = np.cumsum((gaps >> b) + 1 + b)
        sent = np.clip(values[positions], -(1 << (w - 1)), (1 << (w - 1)) - 1)
        bits = np.ones(int(ends[-1]) + k * w, np.uint8)
        bits[ends - b - 1] = 0
        for place in range(b):
            bits[ends - b + place] = (gaps >> (b - 1 - place)) & 1
        columns = bits[int(ends[-1]) :].reshape(k, w)
        for place in range(w):
            columns[:, place] = (sent >> (w - 1 - place)) & 1
        return np.packbits(bits)

    def unpack(self, sent: Bits, length: int) -> IntArray:
        """Return the int64[n] that bytes uint8[m] stand for.

        Raises
        ------
        UpdateRefusedError
            ``malformed`` if the bytes are not those that :meth:`pack` gives for some values.
        """
        b, k, w = rice_parameter(length, self.k), self.k, self.bits
        if 8 * len(sent) < k * (1 + b + w) or len(sent) > self._most_bytes(length):
            raise _malformed()
        bits = np.unpackbits(sent)
        positions, end = _positions(bits, len(bits) - k * w, k, b)
        rest = bits[end + k * w :]
        if positions[-1] >= length or len(rest) >= 8 or rest.any():
            raise _malformed()
        columns, found = bits[end : end + k * w].reshape(k, w), np.zeros(k, np.int64)
        for place in range(w):
            found = (found << 1) | columns[:, place]
        found -= (found >> (w - 1)) << w
        values = np.zeros(length, np.int64)
        values[positions] = found
        # Zeros are sent where too few coordinates are not zero, and then the first ones.
        if not found.all() and not np.array_equal(positions, _largest(np.abs(values), k)):
            raise _malformed()
        return values

    def _most_bytes(self, length: int) -> int:
        b = rice_parameter(length, self.k)
        return (self.k * (1 + b + self.bits) + ((length - self.k) >> b) + 7) // 8


def _largest(magnitudes: IntArray, k: int) -> IntArray:
    """Return the positions of the k largest, in order; of equal ones those that come first."""
    least = np.partition(magnitudes, -k)[-k]
    above, equal = np.flatnonzero(magnitudes > least), np.flatnonzero(magnitudes == least)
    return np.sort(np.concatenate([above, equal[: k - len(above)]]))


def _positions(bits: Bits, room: int, k: int, b: int) -> tuple[IntArray, int]:
    """Return k positions from the Rice code in the first ``room`` bits, and where it ends."""
    raw, at, zeros = bits[:room].tobytes(), 0, array("q")
    for _ in range(k):
        zero = raw.find(0, at)
        if zero < 0:
            raise _malformed()
        zeros.append(zero)
        at = zero + 1 + b
    if at > room:
        raise _malformed()
    ends = np.array(zeros, np.int64)
    gaps = np.diff(ends, prepend=-1 - b) - 1 - b
    for place in range(b):
        gaps = (gaps << 1) | bits[ends + 1 + place]
    return np.cumsum(gaps + 1) - 1, at


def _malformed() -> UpdateRefusedError:
    return UpdateRefusedError(Verdict.MALFORMED, "a vector's bytes are not those of its codec")
