"""Cosine gradient Shapley values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Estimate
from fedledger.aggregator.games.hyperbolic import ONE, tanh
from fedledger.protocol.arithmetic.exact import Gram, IntArray
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real

PPM = 1_000_000
_FINE = 40
"""Bits by which norms are magnified, and twice as many by which weights over norms are."""


@CONTRIBUTIONS.register("cgsv@1")
@dataclass(frozen=True)
class Cgsv(Checked):
    """Pay by tanh(β r_i), with r_i the lasting cosine of a sender's updates to the weighted aggregate.

    r_i ← α r_i + (1 − α) cos(u_i, Σ_j w_j u_j / ‖u_j‖), from 0 on, with weights w of the aggregate; a share of pay is
    tanh(β max(0, r_i)) / Σ_j tanh(β max(0, r_j)), in proportion to the paper's q_i = tanh(β r_i) / max_j tanh(β r_j)
    (Xu et al. 2021, "Gradient driven rewards to guarantee fairness in collaborative machine learning"). Its cosine
    stands for the Shapley value of v(S) = cos(u_S, u_N), which it follows closely. It measures nothing; what the paper
    does besides, to send better models to who contributes more, is not done here.

    Known failures: direction is no worth: it cannot tell a majority's poison from a minority's rare data; copies all
    earn what one earns, and draw the aggregate towards them; noise beside a small true step costs little.

    Parameters
    ----------
    alpha
        α: how much of r_i stays from round to round.
    beta
        β: how sharply it is told apart; the larger, the more alike all are paid.
    """

    alpha: Annotated[float, Real(0, 1)] = 0.95
    beta: Annotated[float, Real(0, 1000, above=True)] = 1.0

    def estimates(self, context: StageContext, weights: Sequence[int]) -> Sequence[Estimate | None]:
        """Return each r_i, in millionths."""
        lasting = self._lasting(context, weights)
        return [Estimate(r * PPM // ONE) if weight else None for r, weight in zip(lasting, weights, strict=True)]

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        """Return tanh(β r_i) out of 2^30; a sender of a round in which it does not count earns nothing."""
        beta, lasting = Fraction(self.beta), self._lasting(context, weights)
        return [
            tanh(beta * Fraction(max(0, r), ONE)) if weight else 0 for r, weight in zip(lasting, weights, strict=True)
        ]

    def memory_size(self, participants: int, dimension: int) -> int:
        """One integer for each participant."""
        return participants

    def remember(self, context: StageContext, weights: Sequence[int]) -> Mapping[str, IntArray]:
        """Return each r_i out of 2^30, int64[1] by owner; whoever does not count keeps what it had."""
        lasting = self._lasting(context, weights)
        new = zip(context.owners, lasting, weights, strict=True)
        return {**context.memory, **{owner: np.array([r], np.int64) for owner, r, weight in new if weight}}

    def _lasting(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        kept = round(Fraction(self.alpha) * ONE)
        now = cosines_to_aggregate(context.features.gram[: context.count, : context.count], weights)
        before = [_kept(context, owner) for owner in context.owners]
        return [(kept * old + (ONE - kept) * new) // ONE for old, new in zip(before, now, strict=True)]


def cosines_to_aggregate(products: Gram, weights: Sequence[int]) -> list[int]:
    """Return cos(u_i, Σ_j w_j u_j / ‖u_j‖) of n vectors, out of 2^30 and rounded down; 0 where one of both is zero.

    Parameters
    ----------
    products
        Their exact inner products, [n, n].
    weights
        w_j ≥ 0.
    """
    exact = products.astype(object)
    squares = [int(square) for square in exact.diagonal()]
    scales = [
        (weight << 3 * _FINE) // isqrt(square << 2 * _FINE) if square else 0
        for weight, square in zip(weights, squares, strict=True)
    ]
    dots = [int(dot) for dot in exact @ np.array(scales, object)] if scales else []
    length = sum(scale * dot for scale, dot in zip(scales, dots, strict=True))
    return [_ratio(dot, square * length) for dot, square in zip(dots, squares, strict=True)]


def _ratio(dot: int, square: int) -> int:
    """Return dot / √square out of 2^30, within ±2^30."""
    return 0 if square <= 0 else min(max(dot * ONE // isqrt(square), -ONE), ONE)


def _kept(context: StageContext, owner: str) -> int:
    """Return an owner's r, which is 0 at first."""
    kept = context.memory.get(owner, np.zeros(1, np.int64))
    if kept.shape != (1,):
        raise ConfigError("What cgsv@1 kept is of another shape.", "Use the state of the last round.")
    return min(max(int(kept[0]), -ONE), ONE)
