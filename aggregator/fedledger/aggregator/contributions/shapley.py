"""Shapley values of a round's updates."""

from __future__ import annotations

from dataclasses import dataclass

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Coalition
from fedledger.aggregator.contributions.game_value import ExactValue
from fedledger.aggregator.games.game import Game, Steps
from fedledger.aggregator.games.semivalues import shapley


@CONTRIBUTIONS.register("shapley@1")
@dataclass(frozen=True)
class Shapley(ExactValue):
    """Pay by exact Shapley values: what an update adds to those before it, on average over all orders.

    φ_i = Σ_{S ∌ i} |S|! (n − |S| − 1)! / n! · (v(S ∪ i) − v(S)) (Shapley 1953; of data: Ghorbani and Zou 2019,
    https://arxiv.org/abs/1904.02868). It alone is efficient (Σ φ_i = v(N) − v(∅)), symmetric, additive, and gives
    nothing to whom no coalition needs. It measures all 2^n − 1 coalitions, of ten updates at most.

    Known failures: copies under several names together earn more than one update would, at the expense of whoever is
    like them; where data are alike, differences are mostly noise of the held-out set; whoever sends noise earns
    something by luck.
    """

    def steps(self, context: StageContext, players: Coalition, value: Game) -> Steps:
        """Compute all values."""
        return shapley(len(players), value)
