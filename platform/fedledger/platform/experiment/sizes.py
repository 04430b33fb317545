"""What a task's contents may take, found out before its first round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedledger.aggregator.optimisers.base import OPTIMISERS
from fedledger.platform.devices.fleet import update_size
from fedledger.protocol.codecs.payload import Slot
from fedledger.protocol.encoding.cid import MAX_OBJECT_BYTES, MAX_STATE_BYTES, MIB
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.spec import Limits
from fedledger.protocol.records.update import DELTA, START_LOSS, STATISTICS


def fitting_limits(limits: Limits, payload: Sequence[Slot], rounds: int) -> Limits:
    """Return a task's limits, under which its updates fit; the usual limit on their bytes grows with the model.

    Parameters
    ----------
    limits
        The configuration's.
    payload
        The vectors that an update carries.
    rounds
        The task's last round.

    Raises
    ------
    ConfigError
        If the limit was chosen and updates are larger, or they are larger than content may be.
    """
    size = update_size(payload, rounds)
    if size > MAX_OBJECT_BYTES:
        raise ConfigError(
            f"An update has {size:,} bytes, more than the {MAX_OBJECT_BYTES:,} of content.",
            "Freeze parameters, choose a codec such as top_k@1 in training.payload, or a smaller model.",
        )
    if size <= limits.max_update_bytes:
        return limits
    if limits.max_update_bytes != Limits().max_update_bytes:
        raise ConfigError(
            f"An update has {size:,} bytes; training.limits.max_update_bytes is {limits.max_update_bytes:,}.",
            f"Set it to {size} or more, freeze parameters, or choose a codec such as top_k@1 in training.payload.",
        )
    return limits.model_copy(update={"max_update_bytes": size})


def require_sizes(initial: bytes, payload: Sequence[Slot], optimiser: Method) -> None:
    """Check that an initial model and the aggregator's state fit content.

    Parameters
    ----------
    initial
        The initial model's file.
    payload
        The vectors that an update carries, its delta first.
    optimiser
        The task's server optimiser, whose vectors are in the state.

    Raises
    ------
    ConfigError
        If one of them is too large.
    """
    if len(initial) > MAX_OBJECT_BYTES:
        raise ConfigError(
            f"The initial model has {len(initial):,} bytes, more than the {MAX_OBJECT_BYTES:,} of content.",
            "Choose a smaller one.",
        )
    state = 8 * (payload[0].length * (1 + moments(optimiser)) + sum(published(payload).values()))
    # Names and shapes, and what methods keep, have room of their own.
    if state > MAX_STATE_BYTES - 2 * MIB:
        raise ConfigError(
            f"The aggregator's state has {state:,} bytes with the optimiser {optimiser.method}, more than the "
            f"{MAX_STATE_BYTES:,} of a state.",
            "Choose fedavg@1, which keeps nothing, or a smaller model.",
        )


def moments(optimiser: Method) -> int:
    """Return how many vectors a server optimiser keeps."""
    _, kept = build(OPTIMISERS, optimiser.method, optimiser.params)(np.zeros(1, np.int64), {}, 1)
    return len(kept)


def published(payload: Sequence[Slot]) -> dict[str, int]:
    """Return the lengths of the vectors that the aggregator publishes, by name."""
    return {slot.name: slot.length for slot in payload if slot.name not in (DELTA, START_LOSS, STATISTICS)}
