"""Vectors that an aggregator publishes for local solvers: part of the state that each of its proposals names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import FixedPoint, within
from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import ContentUnreadableError

PREFIX = "published."


def published(state: bytes, lengths: Mapping[str, int], format_: FixedPoint) -> dict[str, NDArray[np.float32]]:
    """Return the published float32 vectors of an encoded state, by name; zeros where there is none yet.

    Parameters
    ----------
    state
        The state that the round before left; empty before the first.
    lengths
        Number of coordinates of each vector that the task's spec names.
    format_
        The task's fixed-point format.

    Raises
    ------
    ContentUnreadableError
        If the bytes are no such state.
    """
    try:
        named = tensors.decode(state) if state else {}
    except tensors.TensorFormatError as error:
        raise _unreadable(f"The aggregator's state cannot be read: {error}.") from error
    vectors = {}
    for name, length in lengths.items():
        vector = named.get(PREFIX + name, np.zeros(length, np.int64))
        if vector.dtype != np.int64 or vector.shape != (length,):
            found = f"{vector.dtype}{list(vector.shape)}"
            raise _unreadable(f"The published {name} is {found}, not int64[{length}].")
        whole = vector.astype(np.int64, copy=False)
        if not within(whole, int(format_.bound * format_.unit)):
            raise _unreadable(f"The published {name} is out of bounds.")
        vectors[name] = format_.to_float32(whole)
    return vectors


def _unreadable(what: str) -> ContentUnreadableError:
    return ContentUnreadableError(what, "Challenge the proposal.")
