"""Exact arithmetic on fixed-point vectors: the same integers on every machine, whatever the data.

Values are int64 of at most ``LIMIT`` in magnitude. They are split into balanced limbs of 21 bits, so that a
float64 matrix product over 4096 of them keeps every partial sum below 2^53: it is exact in whatever order,
and with whatever fused operations, a BLAS adds it up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.division import BITS as _BITS
from fedledger.protocol.arithmetic.division import MASK as _MASK
from fedledger.protocol.arithmetic.division import divided
from fedledger.protocol.errors import ConfigError, FedledgerError
from fedledger.protocol.methods.parameters import Real, real, whole

IntArray = NDArray[np.int64]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Gram = NDArray[Any]
"""Exact inner products of n rows, [n, n]: int64 below 2^62 in magnitude, or Python integers."""

LIMIT = 1 << 40
"""Largest magnitude of a fixed-point value."""
MAX_ROWS = 4096
"""Largest number of rows that are summed."""

_HALF = 1 << (_BITS - 1)
_BASE, _BASE_INVERSE = float(1 << _BITS), 1 / (1 << _BITS)
_LEAST_DIGIT = 8
"""Coefficients are split into digits of so many bits at least."""
_COLUMNS, _LIMB_COLUMNS = 4096, 2048
_EXACT = 1 << 53
_ROOM = 1 << 62
_LEAST_COLUMNS = 256


class OutOfRangeError(FedledgerError):
    """A number is too large for the exact layer."""


class NotFiniteError(FedledgerError):
    """A coordinate is NaN or infinite."""


@dataclass(frozen=True)
class FixedPoint:
    """A fixed-point format: a real x is the integer nearest to x · 2^fraction_bits.

    Parameters
    ----------
    fraction_bits
        Number of bits F after the binary point, 1 to 40.
    bound
        Largest magnitude of a coordinate; bound · 2^F is at most 2^40.

    Raises
    ------
    ConfigError
        If the format does not fit.
    """

    fraction_bits: int
    bound: float

    def __post_init__(self) -> None:
        whole("fraction_bits", self.fraction_bits, 1, 40)
        real("bound", self.bound, Real(0, LIMIT, above=True))
        if self.bound * self.unit > LIMIT:
            raise ConfigError(
                f"{self.fraction_bits} fraction bits and a bound of {self.bound:g} need more than 40 bits.",
                "Lower fraction_bits or the bound.",
            )

    @property
    def unit(self) -> int:
        """The integer that stands for 1."""
        return 1 << self.fraction_bits

    def quantise(self, x: Float32Array) -> IntArray:
        """Return the int64[d] nearest to float32[d], halves to even.

        Raises
        ------
        NotFiniteError
            If a coordinate is NaN or infinite.
        OutOfRangeError
            If a coordinate is beyond ±bound.
        """
        single = np.asarray(x, np.float32)
        self.require_fits(magnitude(single))
        return self.rounded(single)

    def require_fits(self, largest: float) -> None:
        """Check the largest magnitude of a vector.

        Raises
        ------
        NotFiniteError, OutOfRangeError
            As :meth:`quantise`.
        """
        if not np.isfinite(largest):
            raise NotFiniteError("A coordinate is not a finite number.", "Leave this vector out.")
        if largest > self.bound:
            raise OutOfRangeError(
                f"A coordinate is {largest:g}, beyond ±{self.bound:g}.",
                "Leave this vector out, or raise the fixed-point bound of the task.",
            )

    def rounded(self, x: Float32Array) -> IntArray:
        """Return what :meth:`quantise` does of a vector whose :func:`magnitude` is known to be within the bound."""
        # A power of two, so the product is exact; and a float32 is rounded to the same integer as its double.
        whole: Float32Array = x * np.float32(self.unit)
        np.rint(whole, out=whole)
        return whole.astype(np.int64)

    def to_float32(self, q: IntArray) -> Float32Array:
        """Return the float32[d] nearest to int64[d] of at most 53 bits."""
        # It is rounded once, as an integer: a division by a power of two is exact.
        single = q.astype(np.float32)
        single *= np.float32(1 / self.unit)
        return single


def to_whole(x: NDArray[np.floating[Any]], limit: int = LIMIT) -> IntArray:
    """Return floats as int64, rounded half to even and limited to ±``limit`` of at most 2^62; infinities are the limit.

    This is the one cast for floats whose range does not follow from what was checked before: C leaves it open what
    becomes of a float that no int64 holds, and processors differ in it.

    Raises
    ------
    NotFiniteError
        If one is NaN, which has no nearest integer.
    OutOfRangeError
        If the limit is above 2^62.
    """
    if limit > _ROOM:
        raise OutOfRangeError(f"A limit of {limit} is above 2^62.", "Give a lower one.")
    # A limit that no such float equals is one of the integers. (np.clip takes several times as long.)
    is_float = int(x.dtype.type(limit)) == limit
    most = limit if is_float else _ROOM
    whole = np.minimum(np.maximum(np.rint(x), -most), most)
    if np.isnan(whole).any():
        raise NotFiniteError("A number is NaN, which stands for no integer.", "Leave this vector out.")
    cast: IntArray = whole.astype(np.int64)
    return cast if is_float else np.minimum(np.maximum(cast, -limit), limit)


def magnitude(x: Float32Array) -> float:
    """Return the largest magnitude of a coordinate; NaN or infinity where one is."""
    # As a double: NumPy would round what it is compared with to float32.
    return max(float(x.max(initial=0.0)), -float(x.min(initial=0.0)))


class WeightedMean:
    """Σ coefficients[i] · rows[i] / denominator, exact and rounded once, halves to even.

    Parameters
    ----------
    coefficients
        n ≤ 4096 integers of any size and sign.
    denominator
        A positive integer; together with the coefficients it is first reduced to lowest terms.

    Raises
    ------
    OutOfRangeError
        If the result might not fit in 62 bits, or if the reduced denominator has more than 61 bits.
    """

    def __init__(self, coefficients: Sequence[int], denominator: int) -> None:
        shared = gcd(denominator, *coefficients)
        self._coefficients = [c // shared for c in coefficients]
        self._denominator = denominator // shared
        self._total = sum(map(abs, self._coefficients))
        if self._total * LIMIT >= self._denominator << 62 or self._denominator.bit_length() > 61:
            raise OutOfRangeError("The weights of a sum are too large.", "Scale the weights down.")
        self._digits: dict[int, Float64Array] = {}

    def __call__(self, rows: IntArray | Float64Array, most: int | None = None) -> IntArray:
        """Return the mean int64[d] of rows [n, d].

        Parameters
        ----------
        rows
            int64 or whole doubles of magnitude at most 2^40.
        most
            What no magnitude is above, if that is known: it need not be the largest.

        Raises
        ------
        OutOfRangeError
            If a value is beyond 2^40, or there are not as many rows as coefficients.
        """
        n = len(self._coefficients)
        if not rows.shape[0] == n <= MAX_ROWS:
            raise OutOfRangeError(f"{rows.shape[0]} rows cannot be summed.", f"Sum at most {MAX_ROWS}.")
        largest = _largest(rows) if most is None or not self._digit_bits(most) else most
        if self._coefficients == [1] and self._denominator == 1:
            alone: IntArray = rows[0].astype(np.int64)
            return alone
        bits = self._digit_bits(largest)
        if not bits:
            limbs = self._digit_sums(rows, _BITS) if self._room(largest) >= _BITS else self._limbs(rows)
            return divide_limbs(limbs, self._denominator)
        sums = self._digit_sums(rows, bits)
        total = sums[0]
        for place, digit_sum in enumerate(sums[1:], start=1):
            total += digit_sum << (place * bits)
        return divide_limbs([total], self._denominator)

    def _digit_bits(self, largest: int) -> int:
        """Return how long digits of coefficients are by which rows of such a magnitude are multiplied; 0: by none."""
        bits = self._room(largest)
        return bits if bits >= _LEAST_DIGIT and self._total * largest < _ROOM else 0

    def _room(self, largest: int) -> int:
        """Return of how many bits digits are whose products with such rows, all of them added up, stay below 2^53."""
        return 53 - largest.bit_length() - (len(self._coefficients) - 1).bit_length()

    def _digit_sums(self, rows: IntArray | Float64Array, bits: int) -> list[IntArray]:
        """Return Σ_i digits[k, i] · rows[i], int64[d] for each place k of digits of so many bits."""
        return list((self._split(bits) @ rows.astype(np.float64, copy=False)).astype(np.int64))

    def _limbs(self, rows: IntArray | Float64Array) -> list[IntArray]:
        """Return limbs L with Σ coefficients[i] · rows[i] = Σ L[k] · 2^(21k), each below 2^54."""
        digits = self._split(_BITS)
        low, high = _limbs(rows)
        sums = np.zeros((len(digits) + 1, rows.shape[1]), np.int64)
        sums[:-1] += (digits @ low).astype(np.int64)
        sums[1:] += (digits @ high).astype(np.int64)
        return list(sums)

    def _split(self, bits: int) -> Float64Array:
        """Return the coefficients' digits float64[k, n] of so many bits, the least significant first."""
        if bits not in self._digits:
            self._digits[bits] = np.array(_digits(self._coefficients, bits), np.float64)
        return self._digits[bits]


def weighted_mean(rows: IntArray | Float64Array, coefficients: Sequence[int], denominator: int) -> IntArray:
    """Return the :class:`WeightedMean` int64[d] of rows [n, d]."""
    return WeightedMean(coefficients, denominator)(rows)


def weighted_means(rows: IntArray | Float64Array, coefficients: IntArray, denominators: Sequence[int]) -> IntArray:
    """Return several weighted means of the same rows, each exact and rounded once, halves to even.

    Parameters
    ----------
    rows
        int64[n, d], n ≤ 4096, of magnitude at most 2^40.
    coefficients
        int64[m, n].
    denominators
        m positive integers of at most 61 bits; Σ |coefficients[i]| / denominators[i] is at most 4096.

    Returns
    -------
    int64[m, d]
    """
    _largest(rows)
    low, high = _limbs(rows)
    sums: list[IntArray] = [np.zeros((len(coefficients), rows.shape[1]), np.int64)]
    rest = coefficients
    while rest.any() or len(sums) == 1:
        digits = ((rest + _HALF) & _MASK) - _HALF
        sums[-1] += (digits.astype(np.float64) @ low).astype(np.int64)
        sums.append((digits.astype(np.float64) @ high).astype(np.int64))
        rest = (rest - digits) >> _BITS
    return np.stack([divide_limbs([limb[i] for limb in sums], one) for i, one in enumerate(denominators)])


def scaled(row: IntArray, numerator: int, denominator: int) -> IntArray:
    """Return numerator · int64[d] / denominator as :func:`weighted_mean`; the row itself where that is 1."""
    return row if numerator == denominator else weighted_mean(row[None], [numerator], denominator)


def divide_round(total: IntArray, denominator: int) -> IntArray:
    """Return int64[d] / denominator (of at most 61 bits), rounded half to even."""
    return divide_limbs([total], denominator)


def small_product(matrix: IntArray, rows: IntArray | Float64Array) -> Float64Array:
    """Return the exact product, as whole doubles, of int64[m, n], whose rows' magnitudes sum to ≤ 4096, and [n, d].

    Raises
    ------
    OutOfRangeError
        If the matrix or a value of ``rows`` (at most 2^40) is too large.
    """
    if np.abs(matrix).sum(axis=1).max(initial=0) > MAX_ROWS:
        raise OutOfRangeError("The coefficients of a sum are too large.", f"Sum at most {MAX_ROWS} rows.")
    # No partial sum is beyond 2^12 times 2^40, so it is exact in whatever order.
    _largest(rows)
    product: Float64Array = matrix.astype(np.float64) @ rows.astype(np.float64, copy=False)
    return product


class GramAccumulator:
    """Exact inner products of n rows that come in blocks of columns, whatever the blocks.

    Small values are multiplied as they are, by so many columns at a time that the sums stay below 2^53. Where that
    would be few, values are split into limbs. Both give the same integers.

    Parameters
    ----------
    n
        Number of rows.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._total: NDArray[Any] | None = None
        # Products of low limbs, of low with high ones and of high ones.
        self._low, self._cross, self._high = (np.zeros((n, n), np.int64) for _ in range(3))
        self._bound = 0
        self._split = False

    def add(self, block: IntArray | Float64Array) -> None:
        """Add columns [n, d'], int64 or whole doubles, of at most 2^40; raises OutOfRangeError for larger ones."""
        for start in range(0, block.shape[1], _COLUMNS):
            columns = block[:, start : start + _COLUMNS]
            largest = _largest(columns)
            width = _EXACT // max(1, largest * largest)
            if width < _LEAST_COLUMNS:
                self._add_limbs(columns)
            else:
                self._add_whole(columns.astype(np.float64, copy=False), width, largest)

    def _add_whole(self, columns: Float64Array, width: int, largest: int) -> None:
        for start in range(0, columns.shape[1], width):
            part = columns[:, start : start + width]
            self._make_room(part.shape[1] * largest * largest)
            self._low += (part @ part.T).astype(np.int64)

    def _add_limbs(self, columns: IntArray | Float64Array) -> None:
        for start in range(0, columns.shape[1], _LIMB_COLUMNS):
            low, high = _limbs(columns[:, start : start + _LIMB_COLUMNS])
            both = low + high
            # Three symmetric products instead of four (Karatsuba and Ofman 1962); sums of 2^11 squares of at most
            # 3 · 2^19 are below 2^53.
            squares, upper = (low @ low.T).astype(np.int64), (high @ high.T).astype(np.int64)
            self._make_room(low.shape[1] * 9 << (2 * _BITS - 4))
            self._low += squares
            self._cross += (both @ both.T).astype(np.int64) - squares - upper
            self._high += upper
            self._split = True

    def merge(self, other: GramAccumulator) -> None:
        """Add what another one holds of other columns of the same rows."""
        self._flush()
        more = other.result()
        assert self._total is not None
        self._total = _added(self._total, more)

    def result(self) -> Gram:
        """Return the n × n inner products."""
        self._flush()
        assert self._total is not None
        return self._total

    def _make_room(self, more: int) -> None:
        """Keep the sums in int64 below 2^62, given what is added at most to any of them."""
        if self._bound + more >= _ROOM:
            self._flush()
        self._bound += more

    def _flush(self) -> None:
        parts: NDArray[Any] = self._low.copy()
        if self._split:
            parts = _joined(self._low, self._cross, self._high)
        self._total = parts if self._total is None else _added(self._total, parts)
        for sums in (self._low, self._cross, self._high):
            sums[:] = 0
        self._bound, self._split = 0, False


def _added(left: Gram, right: Gram) -> Gram:
    """Return the sum, as int64 where it is below 2^62 in magnitude."""
    total: NDArray[Any] = left.astype(object) + right.astype(object)
    return total.astype(np.int64) if int(np.abs(total).max(initial=0)) < _ROOM else total


def _joined(low: IntArray, cross: IntArray, high: IntArray) -> NDArray[Any]:
    """Return low + cross · 2^21 + high · 2^42, as int64 where it fits."""
    largest = [max(int(part.max(initial=0)), -int(part.min(initial=0))) for part in (low, cross, high)]
    parts: list[NDArray[Any]] = [low, cross, high]
    if largest[0] + (largest[1] << _BITS) + (largest[2] << (2 * _BITS)) >= _ROOM:
        parts = [part.astype(object) for part in parts]
    total: NDArray[Any] = parts[0] + (parts[1] << _BITS) + (parts[2] << (2 * _BITS))
    return total


def gram(rows: IntArray | Iterable[IntArray | Float64Array]) -> Gram:
    """Return the exact inner products of int64[n, d], or of an iterable of its column blocks [n, d'].

    Blocks of doubles, which are whole, take the least time.

    Raises
    ------
    OutOfRangeError
        If a value is beyond 2^40.
    """
    accumulator: GramAccumulator | None = None
    for block in [rows] if isinstance(rows, np.ndarray) else rows:
        accumulator = accumulator or GramAccumulator(block.shape[0])
        accumulator.add(block)
    return accumulator.result() if accumulator else np.zeros((0, 0), np.int64)


def saturate(x: IntArray | Float64Array) -> IntArray:
    """Return integers (or doubles, rounded half to even) limited to ±2^40."""
    if x.dtype != np.int64:
        return to_whole(x.astype(np.float64, copy=False))
    return np.minimum(np.maximum(x, -LIMIT), LIMIT).astype(np.int64, copy=False)


def within(x: IntArray, limit: int) -> bool:
    """Return whether no integer of int64[…] is beyond ±``limit``."""
    return -limit <= int(x.min(initial=0)) and int(x.max(initial=0)) <= limit


def _largest(rows: IntArray | Float64Array) -> int:
    """Return the largest magnitude; raises OutOfRangeError if it is beyond 2^40."""
    largest = max(int(rows.max(initial=0)), -int(rows.min(initial=0)))
    if largest > LIMIT:
        raise OutOfRangeError("A fixed-point value is beyond 2^40.", "Refuse vectors beyond the task's bound.")
    return largest


def _limbs(rows: IntArray | Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return doubles with low + 2^21 · high = rows, which are at most 2^40; low is at most 2^20."""
    whole = rows.astype(np.float64, copy=False)
    # By powers of two, so both products are exact.
    high = np.rint(whole * _BASE_INVERSE)
    return whole - high * _BASE, high


def _digits(coefficients: Sequence[int], bits: int) -> list[list[int]]:
    """Split integers into balanced digits of so many bits, least significant first: digits[k][i]."""
    digits: list[list[int]] = []
    rest, half, mask = list(coefficients), 1 << (bits - 1), (1 << bits) - 1
    while any(rest) or not digits:
        digits.append([((c + half) & mask) - half for c in rest])
        rest = [(c - digit) >> bits for c, digit in zip(rest, digits[-1], strict=True)]
    return digits


def divide_limbs(limbs: Sequence[IntArray], denominator: int) -> IntArray:
    """Return Σ limbs[k] · 2^(21k), int64[d] each, divided by 1 to 2^61 − 1 and rounded half to even."""
    if denominator < 1 or denominator.bit_length() > 61:
        raise OutOfRangeError(f"Cannot divide by {denominator}.", "Use a denominator from 1 to 2^61 - 1.")
    return divided(limbs, denominator)
