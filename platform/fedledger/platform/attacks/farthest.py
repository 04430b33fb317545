"""As far from the honest mean as the honest updates' own distances hide it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.platform.attacks.colluding import Crafted, Rows, squared_distances
from fedledger.protocol.methods.parameters import OneOf

MEAN, DEVIATION, SIGN = "mean", "deviation", "sign"
STEPS = 60
"""Halvings of what is known of the largest factor."""


@dataclass(frozen=True)
class Farthest(Crafted):
    """Sends μ + γ·p with the largest γ at which a measure of its distances is no larger than the honest updates' own.

    Parameters
    ----------
    direction
        p: opposite to the mean, the negative standard deviations, or the opposite of the mean's signs.
    """

    direction: Annotated[str, OneOf((MEAN, DEVIATION, SIGN))] = MEAN

    @abstractmethod
    def measure(self, squared: Rows) -> float:
        """Return what squared distances to all updates come to."""

    def craft(self, rows: Rows) -> Rows:
        """Return the vector that is as far away as is allowed."""
        mean = rows.mean(axis=0)
        towards = {MEAN: -mean, DEVIATION: -rows.std(axis=0), SIGN: -np.sign(mean)}[self.direction]
        norm = float(np.sqrt(np.square(towards).sum()))
        if len(rows) < 2 or not np.isfinite(norm) or not norm:
            return np.asarray(mean)
        most = max(self.measure(squared_distances(rows, row)) for row in rows)
        unit, low, high = towards / norm, 0.0, float(np.sqrt(most)) * 2
        for _ in range(STEPS):
            middle = (low + high) / 2
            fits = self.measure(squared_distances(rows, mean + middle * unit)) <= most
            low, high = (middle, high) if fits else (low, middle)
        return np.asarray(mean + low * unit)
