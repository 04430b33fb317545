"""Guided truncation gradient Shapley."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Coalition
from fedledger.aggregator.contributions.game_value import SampledValue
from fedledger.aggregator.games.game import Game, Steps
from fedledger.aggregator.games.sampling import Walk, cycles, walked
from fedledger.protocol.methods.parameters import Real, Whole

PPM = 1_000_000


@CONTRIBUTIONS.register("gtg_shapley@1")
@dataclass(frozen=True)
class GtgShapley(SampledValue):
    """Pay by Shapley values estimated from orders that each update leads in turn, truncated within and between rounds.

    φ_i is the mean of v(before i and i) − v(before i) over the orders of some cycles; nobody earns in a round with
    |v(N) − v(∅)| < ε_b, and an order adds nothing from where |v(N) − v(before i)| < ε_w |v(N) − v(∅)| (Liu et al. 2022,
    https://arxiv.org/abs/2109.02053). A cycle is a random order and its rotations, forth and back, so each update leads
    as often as any other, as in the paper, and comes at each place as often. Cycles go on until no standard error is
    above a share of |v(N) − v(∅)|, which stands for the paper's change from cycle to cycle. Without truncation all
    cycles give the exact values. Ten updates take 91 coalitions in the first cycle at most, not 1,023.

    Known failures: those of exact Shapley values; in a round that gains little nobody earns; what is left to add may
    first fall and then rise, and truncation does not see that.

    Parameters
    ----------
    between
        ε_b: the gain in the worth's unit below which nobody earns.
    within
        ε_w: the share of what all updates add that counts as nothing.
    settled
        The share that no standard error is above in the end; 0 for as many cycles as there may be.
    cycles
        How many cycles there are at most.
    evaluations
        How many coalitions are measured at most; a task asks fewer participants than that.
    """

    between: Annotated[float, Real(0, 1000)] = 0.001
    within: Annotated[float, Real(0, 1)] = 0.01
    settled: Annotated[float, Real(0, 1)] = 0.001
    cycles: Annotated[int, Whole(1, 1024)] = 120
    evaluations: Annotated[int, Whole(2, 1024)] = 100

    def steps(self, context: StageContext, players: Coalition, value: Game) -> Steps:
        """Walk the cycles."""
        walk = Walk(
            within=Fraction(self.within),
            between=Fraction(self.between) * PPM,
            settled=Fraction(self.settled),
            evaluations=self.evaluations,
        )
        return walked(len(players), value, cycles(len(players), self.cycles, context.draws()), walk)
