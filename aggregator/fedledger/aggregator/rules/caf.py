"""Covariance-bound agnostic filter (Allouah et al. 2025, https://arxiv.org/abs/2505.01874)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.geometry import squared_distances
from fedledger.aggregator.context.least_rows import NeedsMajority
from fedledger.aggregator.context.spectrum import STEPS, in_order, principal, times
from fedledger.aggregator.context.work import MAX_PAIR_STEPS, require_work
from fedledger.aggregator.rules.base import RULES, Combination, LinearRule, RuleContext, rounded
from fedledger.protocol.arithmetic.exact import Float64Array
from fedledger.protocol.methods.parameters import Checked, Real, Whole


@RULES.register("caf@1")
@dataclass(frozen=True)
class CovarianceFilter(Checked, NeedsMajority, LinearRule):
    """The weighted mean with the least variance along its main direction, of those met while outliers lose weight.

    While Σ c_i > n − 2f: with the mean μ and the covariance of the rows under weights c, and its first eigenvector v,
    c_i ← c_i (1 − t_i / max_j t_j), t_i = ⟨x_i − μ, v⟩². The mean with the least first eigenvalue is the aggregate.
    The c start at the rows' weights, scaled to a mean of 1. The maximum is over all rows, also those that have lost all
    their weight, so one far row can make all further steps as small as it likes. After ``iterations`` steps, or once
    one would take less than ``settled`` of the weight, the maximum is over the rows that still have weight: then each
    step takes all the weight of a row, the filter's guarantee holds as before, and the filter ends. Eigenvectors come
    from exact distances of the rows, in double precision.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; a round needs 2f + 1 updates that count.
    iterations
        Largest number of steps whose maximum is over all rows; there are at most as many more as there are rows.
    settled
        Such steps end once one would take less than this share of the weight.
    """

    f: Annotated[int, Whole(0, 4096)]
    iterations: Annotated[int, Whole(1, 10_000)] = 100
    settled: Annotated[float, Real(0, 1)] = 1e-6

    def require_work(self, rows: int, dimension: int) -> None:
        """Raise ConfigError if the eigenvectors of so many rows are too much work."""
        require_work("caf@1", (self.iterations + rows) * min(rows, STEPS) * rows * rows, MAX_PAIR_STEPS)

    def __call__(self, context: RuleContext) -> Combination:
        n = len(context.weights)
        self.require_work(n, 0)
        squared = squared_distances(context.gram).astype(np.float64)
        # The eigenvalue of a covariance: in units that keep its square far from the ends of a double.
        squared /= max(1.0, float(squared.max()))
        weights = np.array(context.weights, np.float64)
        kept: Float64Array = weights * (n / float(in_order(weights)))
        best, least, steps, slow = kept, float("inf"), 0, False
        while (total := float(in_order(kept))) > n - 2 * self.f:
            products = _about_mean(squared, kept, total)
            roots = np.sqrt(kept)
            value, vector = principal(products * roots[:, None] * roots[None, :] / total)
            along = times(products, roots * vector)
            if value < least:
                best, least = kept, value
            tests: Float64Array = along * along
            steps += 1
            slow = slow or steps > self.iterations
            following = _lighter(kept, tests, float(tests.max()))
            if slow or total - float(in_order(following)) < self.settled * total:
                slow = True
                following = _lighter(kept, tests, float(tests[kept > 0].max()))
            if not (following < kept).any():
                break
            kept = following
        total = float(in_order(best))
        return rounded([part / total for part in best.tolist()], iterations=steps)


def _lighter(kept: Float64Array, tests: Float64Array, most: float) -> Float64Array:
    """Return weights times 1 − t / ``most``, at least 0; as they were if ``most`` is 0."""
    lighter: Float64Array = kept * np.maximum(0.0, 1.0 - tests / most) if most else kept
    return lighter


def _about_mean(squared: Float64Array, weights: Float64Array, total: float) -> Float64Array:
    """Return the inner products of rows less their weighted mean, float64[n, n], from their squared distances."""
    toward = times(squared, weights) / total
    spread = float(in_order(toward * weights)) / total
    products: Float64Array = (toward[:, None] + toward[None, :] - spread - squared) / 2
    return products
