"""Mixing: a step before the aggregation rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from fedledger.protocol.arithmetic.exact import Gram
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry


class Mixing(ABC):
    """A step before the rule that replaces each row by the mean of some rows."""

    @abstractmethod
    def __call__(self, gram: Gram) -> list[list[int]]:
        """Return the members of each row's mean, the same number for every row."""


MIXINGS: Registry[Callable[..., Mixing]] = Registry(kind_of("mixing"))
