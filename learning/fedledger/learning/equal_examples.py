"""Examples that are equal to others, whatever their order: the same numbers as inputs, and the same to predict."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset


def example_keys(inputs: NDArray[Any], targets: NDArray[Any]) -> Iterator[bytes]:
    """Yield 32 bytes of each example, which two examples share if all their numbers, types and shapes are equal.

    Parameters
    ----------
    inputs, targets
        [n, ...] and [n, ...], such as :class:`~fedledger.learning.data.Dataset` has them.
    """
    kind = repr([(array.dtype.str, array.shape[1:]) for array in (inputs, targets)]).encode()
    for pair in zip(inputs, targets, strict=True):
        # Both zeros are one number.
        numbers = b"".join((one + one.dtype.type(0)).tobytes() for one in pair)
        yield hashlib.sha256(kind + numbers).digest()


def without(examples: Dataset, known: Set[bytes]) -> Dataset:
    """Return the examples that have none of some keys, in their order; the same object if that is all of them."""
    if not known:
        return examples
    keys = example_keys(examples.inputs, examples.targets)
    places = np.array([place for place, key in enumerate(keys) if key not in known], np.int64)
    return examples if len(places) == len(examples) else examples.take(places)
