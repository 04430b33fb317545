"""Nearest-neighbour mixing (Allouah et al. 2023, https://arxiv.org/abs/2302.01772)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.geometry import shared_places, squared_distances, tolerated
from fedledger.aggregator.context.least_rows import NeedsMajority
from fedledger.aggregator.mixings.base import MIXINGS, Mixing
from fedledger.aggregator.mixings.mixture import require_weights
from fedledger.protocol.arithmetic.exact import Gram, IntArray
from fedledger.protocol.methods.parameters import Checked, Whole


@MIXINGS.register("nearest_neighbour_mixing@1")
@dataclass(frozen=True)
class NearestNeighbourMixing(Mixing, Checked):
    """Each row becomes the plain mean of its n − f nearest rows, itself included.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; lowered to what n > 2f allows.
    """

    f: Annotated[int, Whole(0, 4096)]

    def near(self, n: int) -> int:
        """Return how many of n rows are mixed into each."""
        return n - tolerated(self.f, n)

    def coefficients(self, gram: Gram, weights: Sequence[int]) -> IntArray:
        """Return 1 for the nearest rows of each row, and 0 for the others."""
        n, near = len(gram), self.near(len(gram))
        # The sort is stable, so equal distances stay in index order.
        nearest = np.argsort(squared_distances(gram), axis=1, kind="stable")[:, :near]
        counted = np.zeros((n, n), np.int64)
        np.put_along_axis(counted, nearest, 1, axis=1)
        return counted


@MIXINGS.register("nearest_neighbour_mixing@2")
@dataclass(frozen=True)
class WeightedNearestNeighbourMixing(NearestNeighbourMixing):
    """Each row becomes the weighted mean of its n − f nearest rows, itself included.

    Rows that are equally far and tie for the last places share them: each counts with the same part of its weight.
    A mixed row is rounded once a coordinate, to a whole multiple of 1 / (n − f).

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; lowered to what n > 2f allows.
    """

    def coefficients(self, gram: Gram, weights: Sequence[int]) -> IntArray:
        """Return the weights of the nearest rows of each row, times a factor, and 0 for the others."""
        require_weights(weights)
        near = self.near(len(gram))
        rows = [shared_places(distances, weights, near) for distances in squared_distances(gram).tolist()]
        return np.array(rows, np.int64)


@MIXINGS.register("nearest_neighbour_mixing@3")
@dataclass(frozen=True)
class StrictNearestNeighbourMixing(WeightedNearestNeighbourMixing, NeedsMajority):
    """Each row becomes the weighted mean of its n − f nearest rows, itself included.

    Rows that are equally far and tie for the last places share them: each counts with the same part of its weight.
    A mixed row is rounded once a coordinate, to a whole multiple of 1 / (n − f). f is never lowered: a round needs
    n > 2f rows.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; a round needs 2f + 1 updates that count.
    """
