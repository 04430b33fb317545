"""Classes divided by Dirichlet proportions."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset, members_of
from fedledger.learning.partitions.base import PARTITIONS, Indices, require_strata
from fedledger.learning.partitions.sizes import require_enough, top_up
from fedledger.protocol.methods.parameters import Checked, Real, Whole


@PARTITIONS.register("dirichlet@1")
@dataclass(frozen=True)
class Dirichlet(Checked):
    """Divides each class by its own draw of Dirichlet proportions (Hsu, Qi and Brown, 2019).

    Drawn once; participants left with fewer than ``min_examples`` then receive examples from whoever holds
    the most. Of numbers to predict each tenth, by their quantiles, is divided like a class.

    Parameters
    ----------
    alpha
        Concentration: near 0, each class goes to one participant; large, everyone gets the same mixture.
    min_examples
        The fewest examples that a participant ends up with.
    """

    alpha: Annotated[float, Real(0, sys.float_info.max, above=True)]
    min_examples: Annotated[int, Whole(1, 2**31)] = 1

    def __call__(self, dataset: Dataset, participants: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the data set; see the module's description."""
        require_enough(dataset, participants, self.min_examples)
        pieces: list[list[Indices]] = [[] for _ in range(participants)]
        for stratum in members_of(require_strata(dataset)):
            members = rng.permutation(stratum)
            ends = np.rint(np.cumsum(self._proportions(participants, rng)) * len(members)).astype(np.int64)
            for piece, part in zip(pieces, np.split(members, ends[:-1]), strict=True):
                piece.append(part)
        return top_up([np.concatenate(piece) for piece in pieces], self.min_examples, rng)

    def _proportions(self, participants: int, rng: np.random.Generator) -> NDArray[np.float64]:
        with np.errstate(all="ignore"):
            drawn: NDArray[np.float64] = rng.dirichlet(np.full(participants, float(self.alpha)))
        if np.isfinite(drawn).all() and abs(drawn.sum() - 1) < 1e-6:
            return drawn
        # Beyond what doubles can draw, the distribution is at its limit: a corner or the centre.
        if self.alpha < 1:
            corner = np.zeros(participants)
            corner[rng.integers(participants)] = 1
            return corner
        return np.full(participants, 1 / participants)
