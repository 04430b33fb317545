"""Geometric median by the smoothed Weiszfeld algorithm (RFA: Pillutla et al. 2022, https://arxiv.org/abs/1912.13445)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.geometry import squared_distances
from fedledger.aggregator.context.least_distances import least_distances
from fedledger.aggregator.context.work import MAX_PAIR_STEPS, require_work
from fedledger.aggregator.rules.base import RULES, Combination, LinearRule, RuleContext, distances_to, rounded
from fedledger.protocol.methods.parameters import Checked, Real, Whole

FINE = 1 << 40
"""The integer that stands for a coefficient of 1, so that a row that is far away does not make a result coarse."""


@RULES.register("geometric_median@1")
@dataclass(frozen=True)
class GeometricMedian(LinearRule, Checked):
    """The point of least weighted sum of distances: v ← Σ β_i x_i / Σ β_i with β_i = w_i / max(ν, ‖x_i − v‖).

    It starts at the weighted mean.

    Parameters
    ----------
    iterations
        Largest number of steps.
    tolerance
        Stop once no coefficient of a row changes by more.
    smoothing
        ν, in units of the model's parameters.
    """

    iterations: Annotated[int, Whole(1, 10_000)] = 1000
    tolerance: Annotated[float, Real(0, 1)] = 1e-10
    smoothing: Annotated[float, Real(1e-290, 1e12)] = 1e-6

    def require_work(self, rows: int, dimension: int) -> None:
        """Raise ConfigError if the steps over so many rows may become too many."""
        require_work("geometric_median@1", self.iterations * rows * rows, MAX_PAIR_STEPS)

    def __call__(self, context: RuleContext) -> Combination:
        squared = squared_distances(context.gram).astype(np.float64)
        least = self.smoothing * context.unit
        current = _normalised([float(w) for w in context.weights])
        steps, change = 0, float("inf")
        while steps < self.iterations and change > self.tolerance:
            # Most settle long before their limit, so what is counted are the steps that are taken.
            require_work("geometric_median@1", (steps + 1) * len(current) ** 2, MAX_PAIR_STEPS)
            distances = distances_to(squared, current)
            following = _normalised([w / max(least, d) for w, d in zip(context.weights, distances, strict=True)])
            change = max(abs(a - b) for a, b in zip(following, current, strict=True))
            current, steps = following, steps + 1
        return rounded(current, iterations=steps)


@RULES.register("geometric_median@2")
@dataclass(frozen=True)
class UnsmoothedGeometricMedian(LinearRule, Checked):
    """The point of least weighted sum of distances, without smoothing (Vardi and Zhang 2000, https://doi.org/10.1073/pnas.97.4.1423).

    Row x_k is that point if and only if ‖Σ_i w_i (x_i − x_k) / ‖x_i − x_k‖‖, over the rows elsewhere, is at most the
    weight of the rows at x_k; then the result is that row, exactly. Otherwise Weiszfeld's steps,
    v ← Σ β_i x_i / Σ β_i with β_i = w_i / ‖x_i − v‖, begin where Vardi and Zhang's step leads from the row of the least
    sum.

    Parameters
    ----------
    iterations
        Largest number of steps.
    tolerance
        Stop once the sum is above the least one by no larger a share of it.
    """

    iterations: Annotated[int, Whole(1, 10_000)] = 1000
    tolerance: Annotated[float, Real(0, 1)] = 1e-10

    def require_work(self, rows: int, dimension: int) -> None:
        """Raise ConfigError if the steps over so many rows may become too many."""
        require_work("geometric_median@2", self.iterations * rows * rows, MAX_PAIR_STEPS)

    def __call__(self, context: RuleContext) -> Combination:
        shared, n = gcd(*context.weights), len(context.weights)
        weights = [weight // shared for weight in context.weights]
        # Most settle long before their limit, so what is counted are the steps that are taken.
        most = min(self.iterations, MAX_PAIR_STEPS // (n * n) + 1)
        point, steps = least_distances(squared_distances(context.gram), weights, most, self.tolerance)
        require_work("geometric_median@2", steps * n * n, MAX_PAIR_STEPS)
        return rounded(point, FINE, iterations=steps)


def _normalised(values: Sequence[float]) -> list[float]:
    total = 0.0  # not sum(), which compensates in some versions of Python and not in others
    for value in values:
        total += value
    return [value / total for value in values]
