"""Statistics of a model, such as running variances: values on the wire, and integers within each tensor's range."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isfinite

import numpy as np

from fedledger.protocol.arithmetic.exact import FixedPoint, Float32Array, IntArray, magnitude
from fedledger.protocol.codecs.base import Tensor
from fedledger.protocol.codecs.dense import finite_floats
from fedledger.protocol.errors import ContentUnreadableError
from fedledger.protocol.records.model import ModelFile, require_readable
from fedledger.protocol.records.spec import StatisticSpec, TaskSpec, TensorsSpec
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict

BITS = 39
"""Bits of a value, so that the difference of two fits the exact layer."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Writes and reads float32[s] by value; each tensor has a fixed-point format and a range of its own.

    Nothing of their length, which a spec only claims, is made before there are so many values.

    Parameters
    ----------
    tensors
        The statistics.
    """

    tensors: tuple[StatisticSpec, ...]

    @classmethod
    def of(cls, tensors: TensorsSpec | None) -> Statistics:
        """Return the format of a spec's statistics; without any it is that of float32[0]."""
        return _format(() if tensors is None else tuple(tensors.statistics))

    @cached_property
    def length(self) -> int:
        """How many numbers they are, s."""
        return sum(tensor.length for tensor in self.tensors)

    @cached_property
    def units(self) -> Float32Array:
        """What stands for 1 in each number's format, float32[s]: powers of two."""
        units = np.array([2.0**bits for bits, _, _ in self._ranges], np.float32)
        return np.repeat(units, self._lengths)

    @cached_property
    def low(self) -> IntArray:
        """The least value of each number, int64[s]."""
        return np.repeat(np.array([low for _, low, _ in self._ranges], np.int64), self._lengths)

    @cached_property
    def high(self) -> IntArray:
        """The largest value of each number, int64[s]."""
        return np.repeat(np.array([high for _, _, high in self._ranges], np.int64), self._lengths)

    @property
    def _ranges(self) -> list[tuple[int, int, int]]:
        return [range_of(tensor) for tensor in self.tensors]

    @property
    def _lengths(self) -> list[int]:
        return [tensor.length for tensor in self.tensors]

    def check(self, length: int) -> None:
        """Accept any length: it follows from the ranges."""

    def encode(self, values: Float32Array, fixed: FixedPoint) -> Tensor:
        """Return the values as they are."""
        return values

    def decode(self, sent: Tensor, length: int, fixed: FixedPoint) -> IntArray:
        """Return float32[s] in each tensor's own format, rounded half to even; see `Codec`."""
        whole = self._rounded(finite_floats(sent, length, "statistic")[0])
        if whole is None:
            raise UpdateRefusedError(Verdict.OUT_OF_RANGE, "a statistic is out of its tensor's range")
        return whole

    def largest(self, length: int) -> Tensor:
        """Return float32[s]."""
        return np.zeros(length, np.float32)

    def fixed(self, values: Float32Array) -> IntArray:
        """Return a model's statistics float32[s] as int64[s]; raises ContentUnreadableError if one is out of range."""
        is_readable = values.shape == (self.length,) and isfinite(magnitude(values))
        whole = self._rounded(values) if is_readable else None
        if whole is None:
            raise ContentUnreadableError(
                "A statistic of the model is out of its tensor's range.",
                "Publish a model whose statistics are within the ranges of the task.",
            )
        return whole

    def cut(self, whole: IntArray) -> IntArray:
        """Return int64[s] with every number within its range."""
        return np.minimum(np.maximum(whole, self.low), self.high)

    def to_float32(self, whole: IntArray) -> Float32Array:
        """Return the float32[s] nearest to int64[s]."""
        # It is rounded once, as an integer: a division by a power of two is exact.
        return np.asarray(whole.astype(np.float32) / self.units, np.float32)

    def _rounded(self, values: Float32Array) -> IntArray | None:
        """Return finite float32[s] as integers; None if one is out of range."""
        with np.errstate(over="ignore"):
            # Powers of two, so the products are exact, or infinite and out of range.
            scaled = np.rint(values * self.units)
        if (np.abs(scaled) > np.float32(1 << BITS)).any():
            return None
        whole: IntArray = scaled.astype(np.int64)
        return whole if ((whole >= self.low) & (whole <= self.high)).all() else None


def range_of(statistic: StatisticSpec) -> tuple[int, int, int]:
    """Return the number of fraction bits of a tensor's format, and its least and largest value in that."""
    bits = BITS - statistic.bound_bits
    bound = float(2**statistic.bound_bits)
    # Limited first: a spec may claim a least value whose product is beyond all doubles.
    least = -bound if statistic.least is None else min(bound, max(-bound, statistic.least))
    return bits, int(np.ceil(least * 2.0**bits)), 1 << BITS


@lru_cache(maxsize=16)
def _format(tensors: tuple[StatisticSpec, ...]) -> Statistics:
    return Statistics(tensors)


def require_model(model: ModelFile, spec: TaskSpec) -> None:
    """Raise ContentUnreadableError unless all numbers of a model have a value in a task's formats."""
    require_readable(model.trained, spec.fixed)
    if model.statistics:
        Statistics.of(spec.tensors).fixed(model.statistic_values)
