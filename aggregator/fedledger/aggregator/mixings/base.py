"""Mixing: a step before the aggregation rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from fedledger.aggregator.context.least_rows import NeedsRows
from fedledger.protocol.arithmetic.exact import Gram, IntArray
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry


class Mixing(NeedsRows, ABC):
    """A step before the rule that replaces each row by a mean of some rows."""

    @abstractmethod
    def near(self, n: int) -> int:
        """Return how many of n rows are mixed into each."""

    @abstractmethod
    def coefficients(self, gram: Gram, weights: Sequence[int]) -> IntArray:
        """Return int64[n, n] of at least 0: row i becomes the mean of all rows j, weighted by the entries i, j.

        Parameters
        ----------
        gram
            Exact inner products of the n rows.
        weights
            Their positive weights.
        """


MIXINGS: Registry[Callable[..., Mixing]] = Registry(kind_of("mixing"))
