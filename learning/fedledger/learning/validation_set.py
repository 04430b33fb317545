"""The validation set of a task, as it is stored: tensors ``inputs`` float32 or int64[n, …] and ``labels``.

The labels are what the task's objective makes of them: int64[n] classes, or int64 or float32 of other shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import ContentUnreadableError

INPUTS, LABELS = "inputs", "labels"
_TYPES = (np.dtype(np.float32), np.dtype(np.int64))


def read_validation(data: bytes) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the inputs [n, …] and labels [n, …] of a stored validation set, n ≥ 1, as arrays of their own.

    Whether the labels are any for the task's objective, and within the model's outputs, is the objective's to check.

    Raises
    ------
    ContentUnreadableError
        If it is none: other tensors, types or shapes, an example without a number, or a number that is not finite.
    """
    try:
        named = tensors.decode(data)
        if set(named) != {INPUTS, LABELS}:
            raise ValueError(f"it holds other tensors than {INPUTS} and {LABELS}")
        inputs, labels = named[INPUTS], named[LABELS]
        _check(INPUTS, inputs, 2)
        _check(LABELS, labels, 1)
        if len(labels) != len(inputs):
            raise ValueError(f"it has {len(inputs)} {INPUTS} and {len(labels)} {LABELS}")
    except ValueError as error:
        raise ContentUnreadableError(f"The validation set cannot be read: {error}.") from error
    return np.array(inputs), np.array(labels)


def _check(name: str, tensor: NDArray[Any], least: int) -> None:
    if tensor.dtype not in _TYPES or tensor.ndim < least or not tensor.size:
        wanted = f"float32 or int64[n{', ...' * (least - 1)}]"
        raise ValueError(f"{name} are {tensor.dtype}{list(tensor.shape)}, not {wanted}")
    if not np.isfinite(tensor).all():
        raise ValueError(f"a number among the {name} is not finite")
