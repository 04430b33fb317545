"""Bucketing (Karimireddy et al. 2022, https://arxiv.org/abs/2006.09365)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Annotated, ClassVar

import numpy as np

from fedledger.aggregator.mixings.base import MIXINGS, Mixing
from fedledger.aggregator.mixings.mixture import MAX_SHARE, require_weights
from fedledger.protocol.arithmetic.exact import Gram, IntArray
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.methods.parameters import Checked, Whole


@MIXINGS.register("bucketing@1")
@dataclass(frozen=True)
class Bucketing(Checked, Mixing):
    """The rows become the weighted means of ⌈n / s⌉ random groups of s of them, of which the last may be smaller.

    The round's random stream draws who is with whom. A group weighs what its rows weigh together, and groups are in the
    order of their first rows. One hostile row spoils its whole group, so the rule behind has to expect as many hostile
    groups as there are hostile updates, among fewer rows.

    Parameters
    ----------
    s
        Rows in each group.
    """

    s: Annotated[int, Whole(1, 4096)]
    needs_gram: ClassVar[bool] = False
    makes_fewer: ClassVar[bool] = True

    def near(self, n: int) -> int:
        """Return how many of n rows are in a group."""
        return min(self.s, n)

    def share(self, n: int) -> int:
        """Return a number by which the means of all groups are whole, or the size of a group if that is too large."""
        shared = lcm(self.near(n), n % self.near(n) or 1)
        return shared if shared <= MAX_SHARE else self.near(n)

    def coefficients(self, gram: Gram, weights: Sequence[int]) -> IntArray:
        """Return the weights of the rows of each group, which are neighbours as long as nothing was drawn."""
        return self._grouped(range(len(weights)), weights)

    def weights(self, coefficients: IntArray, weights: Sequence[int]) -> list[int]:
        """Return what the rows of each group weigh together."""
        return [sum(weights[row] for row in np.flatnonzero(group).tolist()) for group in coefficients]

    def rows_for(self, mixed: int) -> int:
        """Return the fewest rows of which there are so many groups."""
        return max(0, (mixed - 1) * self.s + 1) if mixed else 0

    def drawn(self, draws: Callable[[], Stream]) -> Mixing:
        """Return the bucketing of a round, which draws the groups."""
        return _Drawn(self.s, draws)

    def _grouped(self, order: Sequence[int], weights: Sequence[int]) -> IntArray:
        require_weights(weights)
        groups = sorted(sorted(order[start : start + self.s]) for start in range(0, len(order), self.s))
        coefficients = np.zeros((len(groups), len(weights)), np.int64)
        for group, rows in zip(coefficients, groups, strict=True):
            group[rows] = [weights[row] for row in rows]
        return coefficients


@dataclass(frozen=True)
class _Drawn(Bucketing):
    """A bucketing whose groups are drawn."""

    draws: Callable[[], Stream]

    def coefficients(self, gram: Gram, weights: Sequence[int]) -> IntArray:
        return self._grouped(self.draws().sample(range(len(weights)), len(weights)), weights)
