"""The one spelling of an example in bytes, as training sees it: what a participant's data root is over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset

_TYPES = {np.dtype(np.float32): b"f", np.dtype(np.int64): b"i"}


class CanonicalExamples(Sequence[bytes]):
    """The canonical bytes of examples, made when they are asked for.

    Of the inputs, then of what is to be predicted: the type, ``f`` for float32 and ``i`` for int64; how many axes an
    example has, one byte; the extent of each, 4 bytes; the numbers. All of it is little endian. Zeros with a sign are
    other numbers than those without.

    Parameters
    ----------
    inputs, targets
        [n, ...] and [n, ...], such as :class:`~fedledger.learning.data.Dataset` has them.
    """

    def __init__(self, inputs: NDArray[Any], targets: NDArray[Any]) -> None:
        self._parts = [_head_and_numbers(array) for array in (inputs, targets)]
        self._count = len(inputs)

    @classmethod
    def of(cls, dataset: Dataset) -> CanonicalExamples:
        """Return those of a data set, in its order."""
        return cls(dataset.inputs, dataset.targets)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> bytes: ...

    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...

    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        return b"".join(head + numbers[place].tobytes() for head, numbers in self._parts)

    def __iter__(self) -> Iterator[bytes]:
        (first, inputs), (second, targets) = self._parts
        for pair in zip(inputs, targets, strict=True):
            yield b"".join((first, pair[0].tobytes(), second, pair[1].tobytes()))


def restored(inputs: NDArray[Any], targets: NDArray[Any], outputs: int) -> Dataset:
    """Return a stranger's examples as a data set of their own memory, for a model with so many outputs.

    Raises
    ------
    ConfigError
        If they are none, or a class is beyond the outputs.
    """
    is_class = targets.dtype == np.int64 and targets.ndim == 1
    return Dataset(np.array(inputs), np.array(targets), outputs if is_class else None)


def _head_and_numbers(array: NDArray[Any]) -> tuple[bytes, NDArray[Any]]:
    shape, dtype = array.shape[1:], array.dtype.newbyteorder("<")
    head = _TYPES[array.dtype] + bytes([len(shape)]) + b"".join(extent.to_bytes(4, "little") for extent in shape)
    return head, array.astype(dtype, copy=False).reshape(len(array), prod(shape))
