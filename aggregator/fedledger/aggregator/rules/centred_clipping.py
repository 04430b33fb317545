"""Centred clipping (Karimireddy et al. 2021, https://arxiv.org/abs/2012.10333)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from fedledger.aggregator.context.geometry import squared_distances
from fedledger.aggregator.context.work import MAX_PAIR_STEPS, require_work
from fedledger.aggregator.rules.base import RULES, Combination, LinearRule, RuleContext, distances_to, rounded
from fedledger.protocol.methods.parameters import Checked, Real, Whole


@RULES.register("centred_clipping@1")
@dataclass(frozen=True)
class CentredClipping(LinearRule, Checked):
    """v ← v + Σ w_i (x_i − v) min(1, τ / ‖x_i − v‖) / Σ w_i, from the previous round's aggregate.

    Parameters
    ----------
    tau
        Clipping radius τ, in units of the model's parameters.
    iterations
        Number of steps.
    """

    tau: Annotated[float, Real(0, 1e12, above=True)]
    iterations: Annotated[int, Whole(1, 10_000)] = 5
    needs_previous: ClassVar[bool] = True

    def require_work(self, rows: int, dimension: int) -> None:
        """Raise ConfigError if the steps over so many rows are too many."""
        require_work("centred_clipping@1", self.iterations * rows * rows, MAX_PAIR_STEPS)

    def __call__(self, context: RuleContext) -> Combination:
        self.require_work(len(context.weights), 0)
        squared = squared_distances(context.gram).astype(np.float64)
        radius, total = self.tau * context.unit, sum(context.weights)
        v = [0.0] * len(context.weights) + [1.0]
        clipped: list[int] = []
        for _ in range(self.iterations):
            distances = distances_to(squared, v)[:-1]
            clipped = [i for i, distance in enumerate(distances) if distance > radius]
            pulls = [w / total for w in context.weights]
            for i in clipped:
                pulls[i] *= radius / distances[i]
            kept = 1.0
            for pull in pulls:
                kept -= pull
            v = [kept * a + pull for a, pull in zip(v, [*pulls, 0.0], strict=True)]
        return rounded(v, clipped=clipped)
