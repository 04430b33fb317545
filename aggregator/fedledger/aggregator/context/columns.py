"""The columns of a round's vectors, a block at a time, in the form that a rule computes with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.threads import shared_out
from fedledger.protocol.arithmetic.exact import FixedPoint, Float64Array, Gram, GramAccumulator, IntArray, magnitude
from fedledger.protocol.errors import ConfigError

CELLS, LEAST_COLUMNS = 1 << 17, 512
"""A block has so many numbers, which fit in a processor's cache, but no fewer columns."""
_NARROW = 1 << 31


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
    def count(self) -> int:
        """Number of vectors n, with the last one."""
        return len(self.rows) + (self.last is not None)

    def parts(self) -> list[slice]:
        """Return the blocks' columns."""
        width = self.width or max(LEAST_COLUMNS, CELLS // self.count)
        dimension = len(self.rows[0]) if len(self.rows) else 0
        return [slice(start, min(start + width, dimension)) for start in range(0, dimension, width)]

    def doubles(self, part: slice) -> Float64Array:
        """Return a block as whole doubles [n, d']."""
        block = self._quantised(part) if self._is_float else self._stacked(part)
        wide = np.empty((self.count, block.shape[1]))
        wide[: len(block)] = block
        if self.last is not None:
            wide[-1] = self.last[part]
        return wide

    def whole(self, part: slice) -> IntArray:
        """Return a block as int64[n, d']; a matrix's own is not to be changed."""
        block: IntArray = self._quantised(part).astype(np.int64) if self._is_float else self._stacked(part)
        return block if self.last is None else np.vstack([block, self.last[part]])

    def narrow(self, part: slice) -> IntArray:
        """Return a block as int32[n, d'] where all of it fits, else as int64; the same integers."""
        block = self._quantised(part) if self._is_float else self._stacked(part)
        fits = self.last is None and max(float(block.max(initial=0)), -float(block.min(initial=0))) < _NARROW
        # A float32 below 2^31 is at least 2^7 below it.
        return block.astype(np.int32) if fits else self.whole(part)

    def products(self) -> Gram:
        """Return the exact inner products [n, n] of all vectors."""
        done: list[GramAccumulator] = []

        def work(parts: Iterator[slice]) -> None:
            own = GramAccumulator(self.count)
            for part in parts:
                own.add(self.doubles(part))
            done.append(own)

        shared_out(work, self.parts())
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

    def _quantised(self, part: slice) -> NDArray[np.float32]:
        """Return a block of float32 rounded to whole numbers, which a float32 holds exactly."""
        assert self.fixed is not None
        block = self._stacked(part)
        # A power of two, so the product is exact.
        whole: NDArray[np.float32] = block * np.float32(self.fixed.unit)
        flat = whole.ravel()
        # Of a block of half that length no coordinate is beyond the bound, however inexact its length is; of one with
        # NaN or infinity the length is neither.
        with np.errstate(over="ignore", invalid="ignore"):
            is_short = flat.dot(flat) <= (self.fixed.bound * self.fixed.unit) ** 2 / 4
        if not is_short:
            self.fixed.require_fits(magnitude(block))
        np.rint(whole, out=whole)
        return whole


def exact_products(rows: Sequence[IntArray] | IntArray) -> Gram:
    """Return the exact inner products [n, n] of int64[n, d]."""
    return Columns(rows).products() if len(rows) else np.zeros((0, 0), np.int64)
