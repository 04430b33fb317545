"""Peer prediction from the signs of updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.context.work import MAX_PRODUCTS, require_work
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Estimate
from fedledger.aggregator.games.correlated_agreement import agreements
from fedledger.protocol.methods.parameters import Checked, Whole

PPM = 1_000_000
SIGNS = (-1, 0, 1)


@CONTRIBUTIONS.register("peer_prediction@1")
@dataclass(frozen=True)
class PeerPrediction(Checked):
    """Pay by how much more often an update's signs are those of the others than by chance; nothing is measured.

    The reports are the signs of some coordinates, drawn from the task's stream. Beside each other update, score =
    P(both report the same of the same coordinate) − P(both report the same of two different ones), Correlated Agreement
    where each signal goes with itself (Shnayder et al. 2016, https://arxiv.org/abs/1603.03151; Dasgupta and Ghosh
    2013). An update earns the lower median over the others, at least 0, so that a minority that agrees with itself does
    not raise its own pay; the papers draw one peer.

    Known failures: copies and who plays along with a majority are paid best, and a majority that reports the same
    nonsense is paid for it; it rewards what all see, so rare data earn little; it sees no sizes, so a step that is a
    hundred times too large earns as much.

    Parameters
    ----------
    coordinates
        How many coordinates are looked at; all if there are no more.
    """

    coordinates: Annotated[int, Whole(1, 1 << 16)] = 4096

    def require_work(self, rows: int, dimension: int) -> None:
        """Raise ConfigError if a round is too much work."""
        work = len(SIGNS) * min(self.coordinates, dimension) * rows * rows
        require_work("peer_prediction@1", work, MAX_PRODUCTS)

    def estimates(self, context: StageContext, weights: Sequence[int]) -> Sequence[Estimate | None]:
        """Return each update's median, in millionths."""
        return [None if median is None else Estimate(round(median * PPM)) for median in self._medians(context, weights)]

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        """Return the medians out of 10^6."""
        medians = self._medians(context, weights)
        return [0 if median is None else max(0, round(median * PPM)) for median in medians]

    def _medians(self, context: StageContext, weights: Sequence[int]) -> list[Fraction | None]:
        """Return the lower median of each update's agreement with the others that count; 0 of a single one."""
        counted = [i for i, weight in enumerate(weights) if weight]
        places = self._places(context)
        surplus = agreements(np.sign(context.updates[np.ix_(counted, places)]), SIGNS)
        medians: list[Fraction | None] = [None] * len(weights)
        for row, (i, own) in enumerate(zip(counted, surplus, strict=True)):
            others = sorted(own[:row] + own[row + 1 :])
            medians[i] = Fraction(others[(len(others) - 1) // 2], len(places) ** 2) if others else Fraction()
        return medians

    def _places(self, context: StageContext) -> list[int]:
        dimension = context.updates.shape[1]
        if dimension <= self.coordinates:
            return list(range(dimension))
        return sorted(context.draws().sample(range(dimension), self.coordinates))
