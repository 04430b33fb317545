"""The validation set of a task, as it is stored: tensors ``inputs`` float32[n, …] and ``labels`` int64[n]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.vectors import Float32Array
from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import ContentUnreadableError

INPUTS, LABELS = "inputs", "labels"
MAX_CLASSES = 2**31
"""Labels are below it, as everywhere."""


def read_validation(data: bytes) -> tuple[Float32Array, NDArray[np.int64]]:
    """Return the inputs float32[n, …] and labels int64[n] of a stored validation set, n ≥ 1, as arrays of their own.

    Raises
    ------
    ContentUnreadableError
        If it is none: other tensors or shapes, an input that is not finite, or a label that is no class.
    """
    try:
        named = tensors.decode(data)
        if set(named) != {INPUTS, LABELS}:
            raise ValueError(f"it holds other tensors than {INPUTS} and {LABELS}")
        inputs, labels = named[INPUTS], named[LABELS]
        if inputs.dtype != np.float32 or inputs.ndim < 2 or not len(inputs):
            raise ValueError(f"{INPUTS} are {inputs.dtype}{list(inputs.shape)}, not float32[n, ...]")
        if labels.dtype != np.int64 or labels.shape != inputs.shape[:1]:
            raise ValueError(f"{LABELS} are {labels.dtype}{list(labels.shape)}, not int64[{len(inputs)}]")
        found, classes = np.array(inputs, np.float32), np.array(labels, np.int64)
        if not np.isfinite(found).all():
            raise ValueError("an input is not finite")
        if not 0 <= classes.min() <= classes.max() < MAX_CLASSES:
            raise ValueError("a label is no class")
    except ValueError as error:
        raise ContentUnreadableError(f"The validation set cannot be read: {error}.") from error
    return found, classes
