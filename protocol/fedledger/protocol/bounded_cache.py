"""What was worked out before, kept in bounded memory."""

from __future__ import annotations

from contextlib import suppress
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Values of a pure function by its arguments; the ones that came first go first.

    Unlike a cache of the standard library it can be told a value: who signs something knows its signer, and who
    writes something knows what will be read.

    Parameters
    ----------
    most
        Number of values that are kept.
    """

    def __init__(self, most: int) -> None:
        self._values: dict[K, V] = {}
        self._most = most

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None if it is not kept."""
        return self._values.get(key)

    def keep(self, key: K, value: V) -> V:
        """Keep a value, and return it."""
        self._values[key] = value
        if len(self._values) > self._most:
            # Several threads may do so at once.
            with suppress(KeyError, RuntimeError, StopIteration):
                del self._values[next(iter(self._values))]
        return value
