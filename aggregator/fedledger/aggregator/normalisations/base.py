"""Normalisation: updates that are valid are rescaled, before anything looks at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry


class Normalisation(Protocol):
    """Rescales a round's updates; a frozen dataclass of its parameters."""

    trusts_claims: ClassVar[bool]
    """Whether what a sender states may magnify its update."""

    def __call__(
        self, deltas: IntArray, steps: Sequence[int], examples: Sequence[int], bound: int, unit: int = 1
    ) -> IntArray:
        """Return the rescaled updates int64[n, d].

        Parameters
        ----------
        deltas
            The updates int64[n, d] in address order, each of magnitude at most ``bound``; they are not changed.
        steps
            The local steps that each sender states: any whole numbers of at least 0.
        examples
            The examples that count of each.
        bound
            The magnitude at which the result saturates, at most 2^40.
        unit
            The integer that stands for a coordinate of 1.
        """
        ...


NORMALISATIONS: Registry[Callable[..., Normalisation]] = Registry(kind_of("normalisation"))
