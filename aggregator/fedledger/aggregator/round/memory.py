"""What the methods of a round keep from one round to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fedledger.aggregator.context.stage_context import Remembering, StageContext
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.encoding.cid import MAX_OBJECT_BYTES
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import registry_of
from fedledger.protocol.records.spec import TaskSpec

MAX_MEMORY_BYTES = MAX_OBJECT_BYTES // 2
"""What a task's methods may keep at most; the rest of the state needs room, too."""


def remembering(spec: TaskSpec) -> Iterator[tuple[str, Remembering]]:
    """Yield the methods of a spec that keep something, each with the name that its memory has in the state."""
    places: dict[str, int] = {}
    for kind, method in spec.named():
        place = places[kind.plural] = places.get(kind.plural, -1) + 1
        if kind.replayed and isinstance(made := build(registry_of(kind), method.method, method.params), Remembering):
            yield f"{kind.plural}.{place}", made


def check_memory(spec: TaskSpec, participants: int, dimension: int) -> None:
    """Check that what a task's methods keep fits the state.

    Raises
    ------
    ConfigError
        If it does not.
    """
    sizes = {name: 8 * method.memory_size(participants, dimension) for name, method in remembering(spec)}
    if sum(sizes.values()) > MAX_MEMORY_BYTES:
        raise ConfigError(
            f"The methods of the task keep {sum(sizes.values()):,} bytes from round to round for {participants:,} "
            f"participants; the limit is {MAX_MEMORY_BYTES:,}.",
            "Choose a method without memory, a smaller model, or fewer participants.",
        )


def memory_of(memories: Mapping[str, IntArray], name: str) -> dict[str, IntArray]:
    """Return what the method of a name has kept."""
    return {key[len(name) + 1 :]: kept for key, kept in memories.items() if key.startswith(f"{name}.")}


def remembered(
    methods: Sequence[tuple[str, Remembering, StageContext]], weights: Sequence[int]
) -> dict[str, IntArray]:
    """Return what methods keep after a round that counts, by their names in the state."""
    return {
        f"{name}.{key}": np.asarray(kept, np.int64)
        for name, method, context in methods
        for key, kept in method.remember(context, weights).items()
    }
