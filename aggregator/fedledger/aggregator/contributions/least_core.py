"""The least core of a round's updates."""

from __future__ import annotations

from dataclasses import dataclass

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Coalition
from fedledger.aggregator.contributions.game_value import ExactValue
from fedledger.aggregator.games.game import Game, Steps
from fedledger.aggregator.games.least_core import least_core


@CONTRIBUTIONS.register("least_core@1")
@dataclass(frozen=True)
class LeastCore(ExactValue):
    """Pay so that the coalition that could complain most of its pay complains as little as possible.

    min e so that Σ_i x_i = v(N) − v(∅) and e + Σ_{i ∈ S} x_i ≥ v(S) − v(∅) for all S (of data: Yan and Procaccia 2021,
    "If you like Shapley then you'll love the core"); of all such payments the nucleolus, which is the only one that
    goes on so with the second largest complaint (Schmeidler 1969). The programs are solved in fractions. It measures
    all 2^n − 1 coalitions, of ten updates at most.

    Known failures: one measurement that is off moves the pay of many; where updates are alike all payments that
    satisfy everybody are about the same, and who adds little may get as much as who adds more; copies share what one
    would get, unless others need at least one of them.
    """

    def steps(self, context: StageContext, players: Coalition, value: Game) -> Steps:
        """Compute the nucleolus."""
        return least_core(len(players), value)
