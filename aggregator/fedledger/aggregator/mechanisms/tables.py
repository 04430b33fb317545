"""The tables that a mechanism keeps from round to round, as the aggregator's state holds them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.encoding import tensors

NAME = "mechanisms.0"
"""The mechanism's name among the task's methods, which its tables and its random stream go by."""
MEMORY = "memory."
"""What the names of all that methods keep begin with, in the aggregator's state."""


def tables_in(state: bytes) -> dict[str, IntArray]:
    """Return a mechanism's tables in an encoded state; none where a stranger's bytes are no state.

    Whether they are ones of the task's mechanism is for this to say.
    """
    if not state:
        return {}
    start = f"{MEMORY}{NAME}."
    try:
        found = tensors.decode(state)
    except tensors.TensorFormatError:
        return {}
    kept = {name[len(start) :]: values for name, values in found.items() if name.startswith(start)}
    return {name: values.astype(np.int64) for name, values in kept.items() if values.dtype == np.int64}


def tables_of(memories: Mapping[str, IntArray]) -> dict[str, IntArray]:
    """Return a mechanism's tables among what a state's methods have kept."""
    start = f"{NAME}."
    return {name[len(start) :]: values for name, values in memories.items() if name.startswith(start)}
