"""The columns of a round's vectors, a block at a time, in the form that a rule computes with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.threads import in_threads
from fedledger.protocol.arithmetic.exact import FixedPoint, Float64Array, Gram, GramAccumulator, IntArray, magnitude
from fedledger.protocol.errors import ConfigError

CELLS, LEAST_COLUMNS = 1 << 17, 512
"""A block has so many numbers, which fit in a processor's cache, but no fewer columns."""
_NARROW = 1 << 31


class Scratch(NamedTuple):
    """Memory of one thread, float64[n, d'] and float32[n, d'], in which it makes one block after another."""

    doubles: Float64Array
    singles: NDArray[np.float32]


@dataclass(frozen=True)
class Columns:
    """n vectors of d coordinates, which are read a block of columns at a time and never changed.

    Parameters
    ----------
    rows
        The vectors, int64[n, d] or n of int64[d]; or float32 with ``fixed``. They may be memory maps.
    fixed
        By which vectors of float32 become integers, as :meth:`FixedPoint.quantise` makes them.
    width
        Columns of a block; what suits the number of rows unless given. No result depends on it.
    last
        One more vector int64[d] behind the others, if there is one.
    """

    rows: Sequence[NDArray[Any]] | NDArray[Any]
    fixed: FixedPoint | None = None
    width: int | None = None
    last: IntArray | None = None

    def __post_init__(self) -> None:
        is_float = any(row.dtype == np.float32 for row in self.rows)
        if is_float and (self.fixed is None or any(row.dtype != np.float32 for row in self.rows)):
            raise ConfigError(
                "Vectors of float32 are aggregated with a fixed-point format, and none of them is of integers.",
                "Give the format, or quantise the vectors.",
            )

    @property
    def most(self) -> int | None:
        """What no magnitude is above, if that is known before they are read."""
        return None if self.fixed is None or self.last is not None else int(self.fixed.bound * self.fixed.unit)

    @property
    def count(self) -> int:
        """Number of vectors n, with the last one."""
        return len(self.rows) + (self.last is not None)

    def parts(self) -> list[slice]:
        """Return the blocks' columns."""
        width = self.width or max(LEAST_COLUMNS, CELLS // self.count)
        dimension = len(self.rows[0]) if len(self.rows) else 0
        return [slice(start, min(start + width, dimension)) for start in range(0, dimension, width)]

    def doubles(self, part: slice, scratch: Scratch) -> Float64Array:
        """Return a block as whole doubles [n, d'], for as long as ``scratch`` is not used again."""
        block = self._quantised(part, scratch) if self._is_float else self._stacked(part)
        wide = scratch.doubles[: self.count, : block.shape[1]]
        wide[: len(block)] = block
        if self.last is not None:
            wide[-1] = self.last[part]
        return wide

    def scratch(self) -> Scratch:
        """Return what a thread needs to make blocks in."""
        width = max((part.stop - part.start for part in self.parts()), default=0)
        shape = (self.count, width)
        return Scratch(np.empty(shape), np.empty(shape if self._is_float else (0, 0), np.float32))

    def integers(self, part: slice, scratch: Scratch, narrow: bool = False) -> IntArray:
        """Return a block as integers [n, d'] like :func:`as_integers`; a matrix's own is not to be changed."""
        if self.last is not None:
            return as_integers(self.doubles(part, scratch), narrow)
        return as_integers(self._quantised(part, scratch) if self._is_float else self._stacked(part), narrow)

    def products(self) -> Gram:
        """Return the exact inner products [n, n] of all vectors."""
        done: list[GramAccumulator] = []

        def work(parts: Iterator[slice]) -> None:
            own, scratch = GramAccumulator(self.count), self.scratch()
            for part in parts:
                own.add(self.doubles(part, scratch))
            done.append(own)

        in_threads(work, self.parts())
        total = done[0]
        for other in done[1:]:
            total.merge(other)
        return total.result()

    @cached_property
    def _is_float(self) -> bool:
        return len(self.rows) > 0 and self.rows[0].dtype == np.float32

    def _stacked(self, part: slice) -> NDArray[Any]:
        rows = self.rows
        return rows[:, part] if isinstance(rows, np.ndarray) else np.stack([row[part] for row in rows])

    def _quantised(self, part: slice, scratch: Scratch) -> NDArray[np.float32]:
        """Return a block of float32 rounded to whole numbers, which a float32 holds exactly."""
        assert self.fixed is not None
        rows, unit, width = self.rows, np.float32(self.fixed.unit), part.stop - part.start
        flat = scratch.singles.reshape(-1)[: len(rows) * width]
        whole = flat.reshape(len(rows), width)
        # Of a block of half that length no coordinate is beyond the bound, however inexact its length is; of one with
        # NaN or infinity the length is neither.
        with np.errstate(over="ignore", invalid="ignore"):
            # A power of two, so the product is exact.
            if isinstance(rows, np.ndarray):
                np.multiply(rows[:, part], unit, out=whole)
            else:
                for row, scaled in zip(rows, whole, strict=True):
                    np.multiply(row[part], unit, out=scaled)
            is_short = flat.dot(flat) <= (self.fixed.bound * self.fixed.unit) ** 2 / 4
        if not is_short:
            for row in rows:
                self.fixed.require_fits(magnitude(row[part]))
        np.rint(whole, out=whole)
        return whole


def as_integers(whole: NDArray[Any], narrow: bool = False) -> IntArray:
    """Return whole numbers as int64, or as int32 if that is asked for and holds them all."""
    if narrow and max(float(whole.max(initial=0)), -float(whole.min(initial=0))) < _NARROW:
        return whole.astype(np.int32)
    return whole.astype(np.int64, copy=False)


def exact_products(rows: Sequence[IntArray] | IntArray) -> Gram:
    """Return the exact inner products [n, n] of int64[n, d]."""
    return Columns(rows).products() if len(rows) else np.zeros((0, 0), np.int64)
