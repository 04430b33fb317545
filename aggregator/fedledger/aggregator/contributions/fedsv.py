"""Federated Shapley values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import numpy as np

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Coalition
from fedledger.aggregator.contributions.game_value import MOST_SAMPLED, PARTS, GameValue, counted
from fedledger.aggregator.games.game import Game, Steps
from fedledger.aggregator.games.sampling import Walk, batches, random_orders, walked
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Whole

MOST = 1 << 60
"""No sum of values is beyond: a round's is at most 2^42, of at most 2^16 rounds."""


@CONTRIBUTIONS.register("fedsv@1")
@dataclass(frozen=True)
class FedSV(GameValue):
    """Pay by what the sum of an update's sender's Shapley values over the rounds rises above what it was at most.

    s_t(i) = mean over random orders of v_t(before i and i) − v_t(before i), so that Σ_i s_t(i) = v_t(N) − v_t(∅) in
    each round, and 0 for who does not take part (Wang et al. 2020, https://arxiv.org/abs/2009.06192). A score is how
    far Σ_t s_t(i) is above its highest so far, at least 0: who has spoilt something earns again once that is made
    good. The paper's algorithm 2 does not start again from v_t(∅) in each order, and its algorithm 4 weighs all
    coalitions alike, which gives Banzhaf values; neither is done here. Each order takes n − 1 coalitions; where all
    orders are no more than are drawn, the values are exact. The report tells values and standard errors of the round.

    Known failures: those of exact Shapley values; rounds in which little is left to learn count little, so who comes
    late earns little for the same work; a new name has no past to make good.

    Parameters
    ----------
    orders
        How many orders are drawn at most.
    """

    orders: Annotated[int, Whole(2, 1024)] = 24

    @property
    def most_players(self) -> int:
        """So many that the members of all coalitions can be told."""
        return min(MOST_SAMPLED, max(2, 1024 // self.orders))

    def most_coalitions(self, rows: int) -> int:
        """All coalitions that begin an order, or all there are."""
        return min(1 + self.orders * (rows - 1), (1 << rows) - 1)

    def steps(self, context: StageContext, players: Coalition, value: Game) -> Steps:
        """Walk the orders to their ends."""
        return walked(
            len(players), value, batches(random_orders(len(players), self.orders, context.draws()), 1024), Walk()
        )

    def scores(self, context: StageContext, weights: Sequence[int], values: Sequence[Fraction]) -> list[int]:
        """Return by how much each sum rises above its highest."""
        scores = [0] * len(weights)
        for place, value in zip(counted(weights), values, strict=True):
            _, highest, reached = _sums(context, place, value)
            scores[place] = max(0, reached - highest - context.doubt * PARTS)
        return scores

    def memory_size(self, participants: int, dimension: int) -> int:
        """Two integers for each participant."""
        return 2 * participants

    def remember(self, context: StageContext, weights: Sequence[int]) -> Mapping[str, IntArray]:
        """Return the sum of each owner's values and the highest that it was, int64[2] by owner."""
        kept = dict(context.memory)
        for place, value in zip(counted(weights), self.values(context, weights).values, strict=True):
            _, highest, reached = _sums(context, place, value)
            kept[context.owners[place]] = np.array([reached, max(highest, reached)], np.int64)
        return kept


def _sums(context: StageContext, place: int, value: Fraction) -> tuple[int, int, int]:
    """Return the sum of an owner's values before the round, the highest so far, and the sum now, in scores' parts."""
    kept = context.memory.get(context.owners[place], np.zeros(2, np.int64))
    if kept.shape != (2,):
        raise ConfigError("What fedsv@1 kept is of another shape.", "Use the state of the last round.")
    # A state may hold any numbers; an honest one holds no larger ones.
    before, highest = (min(max(int(kept[k]), -MOST), MOST) for k in range(2))
    return before, highest, min(max(before + round(value * PARTS), -MOST), MOST)
