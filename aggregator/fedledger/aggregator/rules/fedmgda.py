"""FedMGDA+ (Hu et al. 2022, https://arxiv.org/abs/2006.11489)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.geometry import cosines
from fedledger.aggregator.context.spectrum import times
from fedledger.aggregator.context.work import MAX_PAIR_STEPS, require_work
from fedledger.aggregator.rules.base import RULES, Combination, LinearRule, RuleContext, shares
from fedledger.protocol.arithmetic.exact import Float64Array
from fedledger.protocol.methods.parameters import Checked, Real, Whole

FINE = 1 << 40
"""The integer that stands for a coefficient of 1."""
SHORT = 2.0**-20
"""Updates shorter than this part of the median length have no direction that counts."""


@RULES.register("fedmgda@1")
@dataclass(frozen=True)
class MultipleGradientDescent(Checked, LinearRule):
    """The shortest mixture of the updates' directions: a common descent, which makes nobody's loss grow.

    With the shares of weight p_k and the directions u_k = δ_k / ‖δ_k‖, it is s · Σ λ_k u_k for the λ that make
    ‖Σ λ_k u_k‖ least of those with |λ_k − p_k| ≤ ``radius`` · p_k, λ_k ≥ 0 and Σ λ_k = 1; s is the median length of the
    updates. The paper's ball has one radius for all, here each one's follows its weight, and its step is a constant.
    The mixture comes from exact inner products by pairwise Frank-Wolfe steps in double precision. Values, such as
    running variances, are averaged by weight.

    It rests on no claim. As it favours whoever disagrees with the others, somebody hostile may have 1 + ``radius``
    times its share of weight.

    Parameters
    ----------
    radius
        How far a share may be from that of the weight, relative to it; 0 gives the mean of directions.
    iterations
        Largest number of steps.
    tolerance
        Stop once the shares' partial derivatives differ by no more.
    """

    radius: Annotated[float, Real(0, 4096)] = 1.0
    iterations: Annotated[int, Whole(1, 1_000_000)] = 10_000
    tolerance: Annotated[float, Real(0, 1)] = 1e-14

    def require_work(self, rows: int, dimension: int) -> None:
        """Raise ConfigError if the steps over so many rows may become too many."""
        require_work("fedmgda@1", (self.iterations + rows) * rows, MAX_PAIR_STEPS)

    def __call__(self, context: RuleContext) -> Combination:
        if context.by_value:
            return shares(context.weights)
        n = len(context.weights)
        self.require_work(n, 0)
        lengths = np.sqrt(context.gram.diagonal().astype(np.float64))
        known = sorted(length for length in lengths.tolist() if length)
        if not known:
            return shares(context.weights)
        middle = known[(len(known) - 1) // 2]
        moving: list[int] = np.flatnonzero(lengths >= SHORT * middle).tolist()
        total = sum(context.weights[row] for row in moving)
        parts = np.array([context.weights[row] / total for row in moving])
        mixture, steps = self._mixture(cosines(context.gram[np.ix_(moving, moving)]), parts)
        coefficients = [0] * n
        for row, part in zip(moving, mixture.tolist(), strict=True):
            coefficients[row] = round(part * (middle / float(lengths[row])) * FINE)
        return Combination(coefficients, FINE, {"iterations": steps})

    def _mixture(self, products: Float64Array, parts: Float64Array) -> tuple[Float64Array, int]:
        """Return the mixture float64[n] of least length about ``parts``, and the number of steps.

        Each step moves weight between the two rows of which that shortens the sum fastest, as far as it does
        (Lacoste-Julien and Jaggi 2015, https://arxiv.org/abs/1511.05932).
        """
        least, most = np.maximum(parts * (1.0 - self.radius), 0.0), np.minimum(parts * (1.0 + self.radius), 1.0)
        mixture, slopes, steps = parts.copy(), times(products, parts), 0
        while steps < self.iterations:
            to = int(np.argmin(np.where(mixture < most, slopes, np.inf)))
            source = int(np.argmax(np.where(mixture > least, slopes, -np.inf)))
            gap = float(slopes[source] - slopes[to])
            if not (mixture[to] < most[to] and mixture[source] > least[source] and gap > self.tolerance):
                break
            room = min(float(most[to] - mixture[to]), float(mixture[source] - least[source]))
            curvature = float(products[to, to] + products[source, source] - 2.0 * products[to, source])
            moved = min(room, gap / curvature) if curvature > 0 else room
            mixture[to] = min(mixture[to] + moved, most[to])
            mixture[source] = max(mixture[source] - moved, least[source])
            slopes += moved * (products[:, to] - products[:, source])
            steps += 1
        return mixture, steps
