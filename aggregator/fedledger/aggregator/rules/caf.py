"""Covariance-bound agnostic filter (Allouah et al. 2025, https://arxiv.org/abs/2505.01874)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.geometry import squared_distances
from fedledger.aggregator.context.spectrum import STEPS, in_order, principal, times
from fedledger.aggregator.context.work import MAX_PAIR_STEPS, require_work
from fedledger.aggregator.rules.base import RULES, Combination, LinearRule, RuleContext, rounded
from fedledger.protocol.arithmetic.exact import Float64Array
from fedledger.protocol.methods.parameters import Checked, Real, Whole


@RULES.register("caf@1")
@dataclass(frozen=True)
class CovarianceFilter(Checked, LinearRule):
    """The weighted mean with the least variance along its main direction, of those met while outliers lose weight.

    While Σ c_i > n − 2f: with the mean μ and the covariance of the rows under weights c, and its first eigenvector v,
    c_i ← c_i (1 − t_i / max_j t_j), t_i = ⟨x_i − μ, v⟩². The mean with the least first eigenvalue is the aggregate.
    The c start at the rows' weights, scaled to a mean of 1. The maximum is over all rows, also those that have lost all
    their weight, so steps can become ever smaller; then they end after ``iterations``, or once a step takes less than
    ``settled`` of the weight. Eigenvectors come from exact distances of the rows, in double precision.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; a round needs 2f + 1 updates that count.
    iterations
        Largest number of steps.
    settled
        The filter ends once a step takes less than this share of the weight.
    """

    f: Annotated[int, Whole(0, 4096)]
    iterations: Annotated[int, Whole(1, 10_000)] = 100
    settled: Annotated[float, Real(0, 1)] = 1e-6

    @property
    def least_rows(self) -> int:
        """2f + 1."""
        return 2 * self.f + 1

    def require_work(self, rows: int, dimension: int) -> None:
        """Raise ConfigError if the eigenvectors of so many rows are too much work."""
        require_work("caf@1", self.iterations * min(rows, STEPS) * rows * rows, MAX_PAIR_STEPS)

    def __call__(self, context: RuleContext) -> Combination:
        n = len(context.weights)
        self.require_work(n, 0)
        squared = squared_distances(context.gram).astype(np.float64)
        # The eigenvalue of a covariance: in units that keep its square far from the ends of a double.
        squared /= max(1.0, float(squared.max()))
        weights = np.array(context.weights, np.float64)
        kept: Float64Array = weights * (n / float(in_order(weights)))
        best, least, steps = kept, float("inf"), 0
        while steps < self.iterations and (total := float(in_order(kept))) > n - 2 * self.f:
            products = _about_mean(squared, kept, total)
            roots = np.sqrt(kept)
            value, vector = principal(products * roots[:, None] * roots[None, :] / total)
            along = times(products, roots * vector)
            if value < least:
                best, least = kept, value
            tests: Float64Array = along * along
            steps += 1
            if not (most := float(tests.max())):
                break
            kept = kept * (1.0 - tests / most)
            if total - float(in_order(kept)) < self.settled * total:
                break
        total = float(in_order(best))
        return rounded([part / total for part in best.tolist()], iterations=steps)


def _about_mean(squared: Float64Array, weights: Float64Array, total: float) -> Float64Array:
    """Return the inner products of rows less their weighted mean, float64[n, n], from their squared distances."""
    toward = times(squared, weights) / total
    spread = float(in_order(toward * weights)) / total
    products: Float64Array = (toward[:, None] + toward[None, :] - spread - squared) / 2
    return products
