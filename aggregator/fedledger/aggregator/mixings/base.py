"""Mixing: a step before the aggregation rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedledger.aggregator.context.least_rows import NeedsRows
from fedledger.protocol.arithmetic.exact import Gram, IntArray
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry


class Mixing(NeedsRows, ABC):
    """A step before the rule that replaces each row by a mean of some rows."""

    needs_gram: ClassVar[bool] = True
    """Whether it looks at inner products."""
    makes_fewer: ClassVar[bool] = False
    """Whether there are fewer mixed rows than rows."""

    @abstractmethod
    def near(self, n: int) -> int:
        """Return how many of n rows are mixed into each."""

    @abstractmethod
    def coefficients(self, gram: Gram, weights: Sequence[int]) -> IntArray:
        """Return int64[m, n] of at least 0: mixed row i is the mean of all rows j, weighted by the entries i, j.

        There are as many mixed rows as rows, m = n, unless the mixing ``makes_fewer``.

        Parameters
        ----------
        gram
            Exact inner products of the n rows; empty if it does not need them.
        weights
            Their positive weights.
        """

    def share(self, n: int) -> int:
        """Return of what part mixed rows of n rows are whole multiples: 1 / share, at most 4,096."""
        return self.near(n)

    def weights(self, coefficients: IntArray, weights: Sequence[int]) -> Sequence[int]:
        """Return what the mixed rows weigh, by their coefficients and the weights of the rows."""
        return weights

    def rows_for(self, mixed: int) -> int:
        """Return the fewest rows of which there are so many mixed ones."""
        return mixed

    def drawn(self, draws: Callable[[], Stream]) -> Mixing:
        """Return the mixing of a round, whose random stream ``draws`` makes; itself if nothing is drawn."""
        return self


@dataclass(frozen=True)
class Behind(NeedsRows):
    """A rule whose rows a mixing makes.

    Parameters
    ----------
    rule
        The rule.
    mixing
        The mixing.
    """

    rule: NeedsRows
    mixing: Mixing

    @property
    def f(self) -> int | None:
        """How many hostile rows the rule expects."""
        return getattr(self.rule, "f", None)

    @property
    def least_rows(self) -> int:
        """The fewest updates of which enough rows are mixed."""
        return self.mixing.rows_for(self.rule.least_rows)


MIXINGS: Registry[Callable[..., Mixing]] = Registry(kind_of("mixing"))
