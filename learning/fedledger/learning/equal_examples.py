"""Examples that are equal to others, whatever their order: the same numbers as inputs, and the same to predict."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
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


def places_of(examples: Dataset, known: Mapping[bytes, int]) -> NDArray[np.int64]:
    """Return the places of the examples that have some keys, ascending: of each key as many as are known of it.

    Parameters
    ----------
    examples
        Among which they are looked for.
    known
        How many examples of a key there are.
    """
    left = Counter(known)
    found = []
    for place, key in enumerate(example_keys(examples.inputs, examples.targets) if left else ()):
        if left[key] > 0:
            left[key] -= 1
            found.append(place)
    return np.array(found, np.int64)
