"""Agnostic federated learning (Mohri, Sivek and Suresh 2019, https://arxiv.org/abs/1902.00146)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.context.start_losses import start_losses
from fedledger.aggregator.rules.base import ONE, RULES, Combination, LinearRule, RuleContext, shares
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real


@RULES.register("agnostic@1")
@dataclass(frozen=True)
class Agnostic(Checked, LinearRule):
    """The updates by the mixture λ of participants whose loss is largest, which is learned beside the model.

    It descends max_λ Σ λ_k F_k by stochastic steps on both sides, with F_k the loss of the round's starting model on
    participant k's examples. With the shares of weight p_k and λ_k = p_k m_k, each round takes the multipliers
    m_k ← m_k + ``step`` · F_k / median(F) to the nearest ones with 0 ≤ m_k ≤ ``most`` and Σ p_k m_k = 1; nearest in
    Σ p_k (·)², which is m_k ← min(max(m_k − τ, 0), most). They are 1 at first and kept while their owner is absent.
    The paper's set of all mixtures is that of a large ``most``; a small one makes it those of a superquantile.

    F_k is the participant's own claim. It counts between a 64th of the round's median and twice it, and whatever
    somebody claims for however long, its share is at most ``most`` times that of its weight.

    Parameters
    ----------
    step
        By how much a multiplier grows in a round, at the median loss and before what all lose alike.
    most
        Largest multiplier.
    """

    step: Annotated[float, Real(0, 1000)] = 0.1
    most: Annotated[float, Real(1, 4096)] = 2.0
    needs_gram = False
    needs_start_losses = True
    needs_updates = True

    def __call__(self, context: RuleContext) -> Combination:
        multipliers = self._multipliers(context.round, context.rows, context.weights)
        found = shares([weight * each for weight, each in zip(context.weights, multipliers, strict=True)])
        return replace(found, diagnostics={"multipliers": multipliers})

    def memory_size(self, participants: int, dimension: int) -> int:
        """One number for each participant."""
        return participants

    def remember(self, context: StageContext, weights: Sequence[int]) -> Mapping[str, IntArray]:
        """Return everybody's multiplier, int64[1] by owner."""
        places = [place for place, weight in enumerate(weights) if weight]
        if not places:
            return context.memory
        found = self._multipliers(context, places, [weights[place] for place in places])
        now = {context.owners[place]: np.array([each], np.int64) for place, each in zip(places, found, strict=True)}
        return {**context.memory, **now}

    def _multipliers(self, known: StageContext, places: Sequence[int], weights: Sequence[int]) -> list[int]:
        """Return the multipliers of some updates after the round's step, out of 2^30."""
        losses, median = start_losses(known, places)
        step, most = Fraction(self.step) * ONE / median, round(self.most * ONE)
        before = [_kept(known.memory, known.owners[place], most) for place in places]
        return _nearest([m + int(step * loss) for m, loss in zip(before, losses, strict=True)], weights, most)


def _kept(memory: Mapping[str, IntArray], owner: str, most: int) -> int:
    """Return what is kept of a participant, a number within bounds, as a state may hold any."""
    if owner not in memory:
        return ONE
    if memory[owner].shape != (1,):
        raise ConfigError("What agnostic@1 kept is of another rule.", "Use the state of the last round.")
    return min(max(int(memory[owner][0]), 0), most)


def _nearest(values: Sequence[int], weights: Sequence[int], most: int) -> list[int]:
    """Return values less the largest τ, cut to [0, ``most``], whose mean by weight is at least 2^30."""
    low, high, wanted = min(values) - most, max(values), ONE * sum(weights)

    def cut(tau: int) -> list[int]:
        return [min(max(value - tau, 0), most) for value in values]

    while high - low > 1:
        middle = (low + high) // 2
        if sum(weight * value for weight, value in zip(weights, cut(middle), strict=True)) >= wanted:
            low = middle
        else:
            high = middle
    return cut(low)
