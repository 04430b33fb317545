"""q-FedAvg, the solver of q-fair federated learning (Li et al. 2020, https://arxiv.org/abs/1905.10497)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Annotated

from fedledger.aggregator.context.start_losses import MOST, start_losses
from fedledger.aggregator.rules.base import RULES, Combination, LinearRule, RuleContext, shares
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real

BITS = 48
"""Fraction bits of a power of a loss, which is at least 2^-35 of the largest."""
FINE = 40
"""Fraction bits of a coefficient."""


@RULES.register("q_ffl@1")
@dataclass(frozen=True)
class QFairFederatedLearning(Checked, LinearRule):
    """The updates by their senders' losses to the power q, so that the worst-off count more: Σ Δ_k / Σ h_k.

    It descends Σ w_k F_k^(q+1) / (q + 1), with F_k the loss of the round's starting model on participant k's examples
    and w_k its weight. With updates δ_k and L = 1 / ``learning_rate``, Δ_k = w_k F_k^q L δ_k and
    h_k = w_k (q F_k^(q−1) ‖L δ_k‖² + L F_k^q), which bounds the curvature (algorithm 2); with q = 0 it is the mean.

    F_k is the participant's own claim. It counts between a 64th of the round's median and twice it, so a lie multiplies
    a weight by no more than 2^q beside a participant at the median: of n equal updates, one liar has at most
    2^q / (2^q + ⌊n/2⌋) of the sum. A long update shortens everybody's step, by h_k: bound lengths by a normalisation.

    Parameters
    ----------
    q
        How much fairness counts, in quarters.
    learning_rate
        The solver's.
    """

    q: Annotated[float, Real(0, 5)] = 1.0
    learning_rate: Annotated[float, Real(1e-12, 1e12)] = 0.1
    needs_start_losses = True
    needs_updates = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.q * 4 != int(self.q * 4):
            raise ConfigError(f"q is {self.q}, which is no number of quarters.", "Give one such as 0.5, 1 or 2.")

    def __call__(self, context: RuleContext) -> Combination:
        known, quarters = context.round, int(self.q * 4)
        losses, median = start_losses(known, context.rows)
        if not quarters:
            return shares(context.weights)
        largest = MOST * median
        powers = [
            isqrt(isqrt((loss**quarters << 4 * BITS) // largest**quarters)) * weight
            for loss, weight in zip(losses, context.weights, strict=True)
        ]
        if context.by_value:
            return shares(powers)
        # h_k / (L w_k F_k^q) = 1 + q L ‖δ_k‖² / F_k, where rows and losses are in units of their own.
        curvature = sum(
            (power * int(context.gram[row, row]) << FINE) // loss
            for row, (power, loss) in enumerate(zip(powers, losses, strict=True))
        )
        scale = Fraction(quarters, 4) * known.unit / (Fraction(self.learning_rate) * context.unit**2)
        total = sum(powers) + scale * curvature / (1 << FINE)
        coefficients = [int(power * total.denominator << FINE) // total.numerator for power in powers]
        return Combination(coefficients, 1 << FINE, {"losses": losses})
