"""Who sees the integers of a round's exact layer on the way."""

from __future__ import annotations

from typing import Protocol

from fedledger.protocol.arithmetic.exact import Gram, IntArray


class Observer(Protocol):
    """Sees integers of the exact layer that neither the proposal nor the report tells."""

    def __call__(self, what: str, values: IntArray | Gram) -> None:
        """Look at the vector or matrix that is called ``what``; it must not be changed."""
        ...


def null_observer(what: str, values: IntArray | Gram) -> None:
    """Ignore the value."""
