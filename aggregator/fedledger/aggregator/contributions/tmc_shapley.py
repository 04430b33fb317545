"""Truncated Monte Carlo."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Coalition
from fedledger.aggregator.contributions.game_value import SampledValue
from fedledger.aggregator.games.game import Game, Steps
from fedledger.aggregator.games.sampling import Walk, batches, random_orders, walked
from fedledger.protocol.methods.parameters import Real, Whole


@CONTRIBUTIONS.register("tmc_shapley@1")
@dataclass(frozen=True)
class TmcShapley(SampledValue):
    """Pay by Shapley values estimated from random orders, each followed until hardly anything is left to add.

    φ_i is the mean of v(before i and i) − v(before i) over random orders, and 0 in an order from where |v(N) − v(before
    i)| < t |v(N) − v(∅)| (Ghorbani and Zou 2019, algorithm 1, https://arxiv.org/abs/1904.02868). Orders are drawn from
    the task's stream and walked as many at a time as there are updates; where all are few, none is drawn twice. The
    report tells standard errors.

    Known failures: those of exact Shapley values; whoever adds little behind many gets nothing at all; who knows the
    task's stream knows the orders beforehand, unless its randomness is a beacon's.

    Parameters
    ----------
    within
        t: the share of what all updates add that counts as nothing.
    orders
        How many orders are drawn at most.
    evaluations
        How many coalitions are measured at most; a task asks fewer participants than that.
    """

    within: Annotated[float, Real(0, 1)] = 0.01
    orders: Annotated[int, Whole(2, 4096)] = 64
    evaluations: Annotated[int, Whole(2, 1024)] = 200

    def steps(self, context: StageContext, players: Coalition, value: Game) -> Steps:
        """Walk the orders."""
        drawn = random_orders(len(players), self.orders, context.draws())
        walk = Walk(within=Fraction(self.within), evaluations=self.evaluations)
        return walked(len(players), value, batches(drawn, max(2, len(players))), walk)
