"""Nearest-neighbour mixing (Allouah et al. 2023, https://arxiv.org/abs/2302.01772)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.geometry import squared_distances, tolerated
from fedledger.aggregator.mixings.base import MIXINGS, Mixing
from fedledger.protocol.arithmetic.exact import Gram
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

    def __call__(self, gram: Gram) -> list[list[int]]:
        n = len(gram)
        near = n - tolerated(self.f, n)
        # The sort is stable, so equal distances stay in index order.
        nearest: list[list[int]] = np.argsort(squared_distances(gram), axis=1, kind="stable")[:, :near].tolist()
        return nearest
