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
_COLUMNS = 4096
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
        largest = magnitude(single)
        if not np.isfinite(largest):
            raise NotFiniteError("A coordinate is not a finite number.", "Leave this vector out.")
        if largest > self.bound:
            raise OutOfRangeError(
                f"A coordinate is {largest:g}, beyond ±{self.bound:g}.",
                "Leave this vector out, or raise the fixed-point bound of the task.",
            )
        return self.rounded(single)

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


def weighted_mean(rows: IntArray, coefficients: Sequence[int], denominator: int) -> IntArray:
    """Return Σ coefficients[i] · rows[i] / denominator, exact and rounded once, halves to even.

    Parameters
    ----------
    rows
        int64[n, d], n ≤ 4096, of magnitude at most 2^40.
    coefficients
        n integers of any size and sign.
    denominator
        A positive integer; together with the coefficients it is first reduced to lowest terms.

    Returns
    -------
    int64[d]

    Raises
    ------
    OutOfRangeError
        If a value is beyond 2^40, if the result might not fit in 62 bits, or if the reduced denominator has
        more than 61 bits.
    """
    shared = gcd(denominator, *coefficients)
    reduced = [c // shared for c in coefficients]
    denominator //= shared
    if sum(map(abs, reduced)) * LIMIT >= denominator << 62 or denominator.bit_length() > 61:
        raise OutOfRangeError("The weights of a sum are too large.", "Scale the weights down.")
    if reduced == [1] and denominator == 1:
        _largest(rows)
        whole: IntArray = rows[0].copy()
        return whole
    return _divide(_weighted_sum(rows, reduced), denominator)


def weighted_means(rows: IntArray, coefficients: IntArray, denominators: Sequence[int]) -> IntArray:
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
    low, high = _limbs(rows)
    sums: list[IntArray] = [np.zeros((len(coefficients), rows.shape[1]), np.int64)]
    rest = coefficients
    while rest.any() or len(sums) == 1:
        digits = ((rest + _HALF) & _MASK) - _HALF
        sums[-1] += (digits.astype(np.float64) @ low).astype(np.int64)
        sums.append((digits.astype(np.float64) @ high).astype(np.int64))
        rest = (rest - digits) >> _BITS
    return np.stack([_divide([limb[i] for limb in sums], one) for i, one in enumerate(denominators)])


def scaled(row: IntArray, numerator: int, denominator: int) -> IntArray:
    """Return numerator · int64[d] / denominator as :func:`weighted_mean`; the row itself where that is 1."""
    return row if numerator == denominator else weighted_mean(row[None], [numerator], denominator)


def divide_round(total: IntArray, denominator: int) -> IntArray:
    """Return int64[d] / denominator (of at most 61 bits), rounded half to even."""
    return _divide([total], denominator)


def small_product(matrix: IntArray, rows: IntArray) -> IntArray:
    """Return the exact product of int64[m, n], whose rows' magnitudes sum to at most 4096, and int64[n, d].

    Raises
    ------
    OutOfRangeError
        If the matrix or a value of ``rows`` (at most 2^40) is too large.
    """
    if np.abs(matrix).sum(axis=1).max(initial=0) > MAX_ROWS:
        raise OutOfRangeError("The coefficients of a sum are too large.", f"Sum at most {MAX_ROWS} rows.")
    # No partial sum is beyond 2^12 times 2^40, so it is exact in whatever order.
    _largest(rows)
    return (matrix.astype(np.float64) @ rows.astype(np.float64)).astype(np.int64)


class WeightedSum:
    """The exact sum of weighted vectors that come one after another, in any order and in any number of parts.

    Parameters
    ----------
    fixed
        The vectors' fixed-point format.
    dimension
        Number of coordinates d.
    weights
        Sum of all weights that will be added, to this sum and to those that are merged into it.
    limbs
        Where to sum, int64[k, d] of zeros with k = ``limbs_needed(fixed, weights)``; made if not given.

    Raises
    ------
    OutOfRangeError
        If the weights are too large for an exact sum.
    """

    def __init__(self, fixed: FixedPoint, dimension: int, weights: int, limbs: IntArray | None = None) -> None:
        self.fixed = fixed
        self.limbs = np.zeros((limbs_needed(fixed, weights), dimension), np.int64) if limbs is None else limbs
        self.weight = 0
        self._unit, self._short = np.float32(fixed.unit), fixed.bound**2 / 4
        self._scaled = np.empty(dimension, np.float32)
        self._whole = np.empty(dimension, np.int64)

    def add(self, x: Float32Array, weight: int) -> None:
        """Add float32[d], rounded as :meth:`FixedPoint.quantise` does, times an integer weight of at least 0.

        Raises
        ------
        NotFiniteError, OutOfRangeError
            As :meth:`FixedPoint.quantise`; the sum is as it was then.
        """
        scaled, whole = self._scaled, self._whole
        # A vector of half that length has no coordinate beyond the bound, however inexact its length is.
        with np.errstate(over="ignore", invalid="ignore"):
            is_short = x.dot(x) <= self._short
        if not is_short:
            self.fixed.quantise(x)
        # A power of two, so the product is exact; and a float32 is rounded to the same integer as its double.
        np.multiply(x, self._unit, out=scaled)
        np.rint(scaled, out=whole, casting="unsafe")
        self._add(whole, weight)
        self.weight += weight

    def _add(self, whole: IntArray, weight: int) -> None:
        if len(self.limbs) == 1:
            np.multiply(whole, weight, out=whole)
            self.limbs[0] += whole
        else:
            low = ((whole + _HALF) & _MASK) - _HALF
            self.limbs[0] += low * weight
            self.limbs[1] += ((whole - low) >> _BITS) * weight

    def add_rows(self, rows: Float32Array, weights: Sequence[int]) -> None:
        """Add float32[n, d] times n integer weights of at least 0, as :meth:`add` adds one after another.

        Raises
        ------
        NotFiniteError, OutOfRangeError
            As :meth:`add`; the sum is as it was then.
        """
        largest = magnitude(rows)
        if not largest <= self.fixed.bound:
            for row in rows:
                self.fixed.quantise(row)
        # As in add: a float32 holds the product, and the integer that it is rounded to.
        whole = rows * self._unit
        np.rint(whole, out=whole)
        total = sum(weights)
        if len(self.limbs) == 1 and total * (int(largest * self.fixed.unit) + 1) < _EXACT:
            # As every partial sum is, a product of doubles is exact in whatever order it adds up.
            self.limbs[0] += (np.array(weights, np.float64) @ whole.astype(np.float64)).astype(np.int64)
        else:
            for row, weight in zip(whole.astype(np.int64), weights, strict=True):
                self._add(row, weight)
        self.weight += total

    def merge(self, limbs: IntArray, weight: int) -> None:
        """Add what another sum holds."""
        self.limbs += limbs
        self.weight += weight

    def mean(self) -> IntArray:
        """Return int64[d], the sum divided by the weights that were added, rounded half to even."""
        return _divide(list(self.limbs), self.weight)


def limbs_needed(fixed: FixedPoint, weights: int) -> int:
    """Return how many limbs the sum of vectors needs whose weights have the sum ``weights``."""
    if weights * int(fixed.bound * fixed.unit) < 1 << 62:
        return 1
    if weights.bit_length() > 62 - _BITS:
        raise OutOfRangeError("The weights of a sum are too large.", "Scale the weights down.")
    return 2


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
                self._add_limbs(columns.astype(np.int64, copy=False))
            else:
                self._add_whole(columns.astype(np.float64, copy=False), width, largest)

    def _add_whole(self, columns: Float64Array, width: int, largest: int) -> None:
        for start in range(0, columns.shape[1], width):
            part = columns[:, start : start + width]
            self._make_room(part.shape[1] * largest * largest)
            self._low += (part @ part.T).astype(np.int64)

    def _add_limbs(self, columns: IntArray) -> None:
        n = self._n
        limbs = np.concatenate(_limbs(columns))
        products = (limbs @ limbs.T).astype(np.int64)
        self._make_room(columns.shape[1] << (2 * _BITS - 2))
        self._low += products[:n, :n]
        self._cross += products[:n, n:] + products[n:, :n]
        self._high += products[n:, n:]
        self._split = True

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
        self._total = parts if self._total is None else self._total.astype(object) + parts.astype(object)
        for sums in (self._low, self._cross, self._high):
            sums[:] = 0
        self._bound, self._split = 0, False


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


def _limbs(rows: IntArray) -> tuple[Float64Array, Float64Array]:
    _largest(rows)
    low = ((rows + _HALF) & _MASK) - _HALF
    return low.astype(np.float64), ((rows - low) >> _BITS).astype(np.float64)


def _digits(coefficients: Sequence[int]) -> list[list[int]]:
    """Split integers into balanced digits of 21 bits, least significant first: digits[k][i]."""
    digits: list[list[int]] = []
    rest = list(coefficients)
    while any(rest) or not digits:
        digits.append([((c + _HALF) & _MASK) - _HALF for c in rest])
        rest = [(c - digit) >> _BITS for c, digit in zip(rest, digits[-1], strict=True)]
    return digits


def _weighted_sum(rows: IntArray, coefficients: Sequence[int]) -> list[IntArray]:
    """Return limbs L with Σ coefficients[i] · rows[i] = Σ L[k] · 2^(21k), each below 2^54."""
    if not rows.shape[0] == len(coefficients) <= MAX_ROWS:
        raise OutOfRangeError(f"{rows.shape[0]} rows cannot be summed.", f"Sum at most {MAX_ROWS}.")
    digits = np.array(_digits(coefficients), np.float64)
    low, high = _limbs(rows)
    sums = np.zeros((len(digits) + 1, rows.shape[1]), np.int64)
    sums[:-1] += (digits @ low).astype(np.int64)
    sums[1:] += (digits @ high).astype(np.int64)
    return list(sums)


def _divide(limbs: Sequence[IntArray], denominator: int) -> IntArray:
    """Divide Σ limbs[k] · 2^(21k) by long division and round half to even."""
    if denominator < 1 or denominator.bit_length() > 61:
        raise OutOfRangeError(f"Cannot divide by {denominator}.", "Use a denominator from 1 to 2^61 - 1.")
    return divided(limbs, denominator)
