"""The update that an aggregator trusts, as content that its report names; its training is not replayed.

It is one float32 vector of the model's length, ``delta``, in the encoding of all tensors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import IntArray, NotFiniteError, OutOfRangeError
from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import DELTA


def write_trusted(delta: NDArray[np.float32]) -> bytes:
    """Return the content of a trusted update float32[d]."""
    return tensors.encode({DELTA: delta})


def read_trusted(data: bytes, spec: TaskSpec, dimension: int) -> IntArray:
    """Return a trusted update in fixed point, int64[d].

    Raises
    ------
    RoundError
        If the bytes are no such update of this task.
    """
    try:
        named = tensors.decode(data)
        vector = named[DELTA]
        if set(named) != {DELTA} or vector.dtype != np.float32 or vector.shape != (dimension,):
            raise ValueError(f"it holds other tensors than {DELTA} float32[{dimension}]")
        return spec.fixed.quantise(vector.astype(np.float32, copy=False))
    except (ValueError, KeyError, NotFiniteError, OutOfRangeError) as error:
        raise RoundError(f"The trusted update cannot be used: {error}.", "Provide another one.") from error
