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
from fedledger.aggregator.evidence.tallies import OWNER_WORDS, owner_words, owners_of
from fedledger.aggregator.games.hyperbolic import ONE, tanh
from fedledger.protocol.arithmetic.exact import Gram, IntArray
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real

PPM = 1_000_000
_OWNERS, _LASTING = "owners", "lasting"
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
        """Return the number of integers: an owner's address and its r."""
        return participants * (OWNER_WORDS + 1)

    def remember(self, context: StageContext, weights: Sequence[int]) -> Mapping[str, IntArray]:
        """Return all owners' addresses, int64[n, 3], and each r out of 2^30, int64[n].

        Whoever does not count keeps what it had. Arrays have room for all who ever join a task of open enrolment; a
        tensor for each of them would not have.
        """
        new = zip(context.owners, self._lasting(context, weights), weights, strict=True)
        kept = _kept(context) | {owner.lower(): r for owner, r, weight in new if weight}
        owners = sorted(kept)
        return {_OWNERS: owner_words(owners), _LASTING: np.array([kept[owner] for owner in owners], np.int64)}

    def _lasting(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        kept = round(Fraction(self.alpha) * ONE)
        now = cosines_to_aggregate(context.features.gram[: context.count, : context.count], weights)
        before = _kept(context)
        return [
            (kept * before.get(owner.lower(), 0) + (ONE - kept) * new) // ONE
            for owner, new in zip(context.owners, now, strict=True)
        ]


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


def _kept(context: StageContext) -> dict[str, int]:
    """Return each owner's r, by its address in lower case; nothing at first."""
    owners = context.memory.get(_OWNERS, np.zeros((0, OWNER_WORDS), np.int64))
    lasting = context.memory.get(_LASTING, np.zeros(0, np.int64))
    if owners.ndim != 2 or owners.shape[1] != OWNER_WORDS or lasting.shape != owners.shape[:1]:
        raise ConfigError("What cgsv@1 kept is of another shape.", "Use the state of the last round.")
    return dict(zip(owners_of(owners), np.clip(lasting, -ONE, ONE).tolist(), strict=True))
