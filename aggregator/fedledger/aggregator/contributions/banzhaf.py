"""Banzhaf values of a round's updates."""

from __future__ import annotations

from dataclasses import dataclass

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Coalition
from fedledger.aggregator.contributions.game_value import ExactValue
from fedledger.aggregator.games.game import Game, Steps
from fedledger.aggregator.games.semivalues import banzhaf


@CONTRIBUTIONS.register("banzhaf@1")
@dataclass(frozen=True)
class Banzhaf(ExactValue):
    """Pay by exact Banzhaf values: what an update adds to the others, on average over all coalitions of them.

    β_i = 2^(1 − n) Σ_{S ∌ i} (v(S ∪ i) − v(S)) (Banzhaf 1965; of data: Wang and Jia 2023,
    https://arxiv.org/abs/2205.15466). Of all such averages its ranking bears most noise of the measurements. It
    measures all 2^n − 1 coalitions, of ten updates at most.

    Known failures: the values do not add up to what all updates together add, so only their proportion says something;
    coalitions of half of the updates count most, where one more of the same kind hardly matters; copies lower each
    other, and together may earn more or less than one.
    """

    def steps(self, context: StageContext, players: Coalition, value: Game) -> Steps:
        """Compute all values."""
        return banzhaf(len(players), value)
