"""FoolsGold (Fung et al. 2018, https://arxiv.org/abs/1808.04866)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.columns import exact_products
from fedledger.aggregator.context.geometry import cosines
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.rules.base import ONE, RULES, Combination, LinearRule, RuleContext
from fedledger.protocol.arithmetic.exact import LIMIT, IntArray
from fedledger.protocol.arithmetic.logarithm import ln_ppm
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real

PPM = 1_000_000


@RULES.register("foolsgold@1")
@dataclass(frozen=True)
class FoolsGold(Checked, LinearRule):
    """The mean by weight × α, where α is low for participants whose past updates point the same way as another's.

    With H_i the sum of all updates of participant i that counted, and of this one, c_ij = cos(H_i, H_j) and
    v_i = max_j c_ij, a pair is pardoned by c_ij ← c_ij v_i / v_j where v_j > v_i; then α_i = 1 − max_j c_ij, divided by
    the largest α, and α ← κ (ln(α / (1 − α)) + ½), each cut to [0, 1]. Several identities with one aim (sybils) so
    share the weight of one; honest participants with alike data lose weight, too, so it is meant for diverse data. H
    saturates at ±2^40 a coordinate. Whoever comes under a new identity starts without history.

    Parameters
    ----------
    confidence
        κ: how sharply alike and unlike are told apart.
    """

    confidence: Annotated[float, Real(0, 1000, above=True)] = 1.0
    needs_gram = False
    needs_updates = True

    def __call__(self, context: RuleContext) -> Combination:
        known = context.round
        history = _history(known)
        rates = self._rates([history[known.owners[place]] for place in context.rows])
        coefficients = [weight * rate for weight, rate in zip(context.weights, rates, strict=True)]
        return Combination(coefficients, max(1, sum(coefficients)), {"rates": rates})

    def memory_size(self, participants: int, dimension: int) -> int:
        """One vector for each participant."""
        return participants * dimension

    def remember(self, context: StageContext, weights: Sequence[int]) -> Mapping[str, IntArray]:
        """Return the sums of the updates that counted, int64[d] by owner."""
        history = _history(context)
        counted = {owner for owner, weight in zip(context.owners, weights, strict=True) if weight}
        return {**context.memory, **{owner: total for owner, total in history.items() if owner in counted}}

    def _rates(self, histories: Sequence[IntArray]) -> list[int]:
        """Return α of each history, out of 2^30."""
        if len(histories) < 2:
            return [ONE] * len(histories)
        alike = cosines(exact_products(histories))
        np.fill_diagonal(alike, -1.0)
        most = alike.max(axis=1)
        pardon = (most[None, :] > most[:, None]) & (most[:, None] > 0)
        alike = np.where(pardon, alike * most[:, None] / np.where(pardon, most[None, :], 1.0), alike)
        rates = np.clip(1.0 - alike.max(axis=1), 0.0, 1.0)
        largest = float(rates.max())
        if largest == 0:
            return [0] * len(histories)
        return [self._sharpened(round(rate / largest * ONE)) for rate in rates.tolist()]

    def _sharpened(self, rate: int) -> int:
        """Return κ (ln(α / (1 − α)) + ½) of α out of 2^30, cut to [0, 1], out of 2^30."""
        if rate in (0, ONE):
            return rate
        logit = (ln_ppm(rate) - ln_ppm(ONE - rate)) / PPM
        return round(min(1.0, max(0.0, self.confidence * (logit + 0.5))) * ONE)


def _history(context: StageContext) -> dict[str, IntArray]:
    """Return the sum of each owner's updates so far and in this round, int64[d]."""
    rows = list(zip(context.owners, context.updates, strict=True))
    if any(owner in context.memory and context.memory[owner].shape != update.shape for owner, update in rows):
        raise ConfigError("What foolsgold@1 kept is of another model.", "Use the state of the last round.")
    # A state may hold any number of 64 bits; an honest one holds no larger ones.
    kept = {owner: np.clip(total, -LIMIT, LIMIT) for owner, total in context.memory.items()}
    return {owner: np.clip(kept[owner] + update, -LIMIT, LIMIT) if owner in kept else update for owner, update in rows}
