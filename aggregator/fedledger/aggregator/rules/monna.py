"""Nearest-neighbour averaging (MoNNA: Farhadkhani et al. 2023, https://arxiv.org/abs/2210.10544)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.context.geometry import shared_places
from fedledger.aggregator.context.least_rows import NeedsMajority
from fedledger.aggregator.rules.base import RULES, Combination, LinearRule, RuleContext
from fedledger.aggregator.rules.trusted import squared_distances_to_trusted
from fedledger.protocol.methods.parameters import Checked, Whole


@RULES.register("monna@1")
@dataclass(frozen=True)
class NearestNeighbourAveraging(Checked, NeedsMajority, LinearRule):
    """The weighted mean of the n − f rows nearest an update that the aggregator trusts.

    In the paper each participant trusts its own update; here it is one that the aggregator makes from the round's base
    model on data of its own, and that is not averaged itself. Rows that tie for the last places share them: each counts
    with the same part of its weight. Statistics and further vectors of a model are averaged over the rows whose updates
    are nearest.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; a round needs 2f + 1 updates that count.
    """

    f: Annotated[int, Whole(0, 4096)]
    needs_gram: ClassVar[bool] = False
    needs_trusted: ClassVar[bool] = True

    def __call__(self, context: RuleContext) -> Combination:
        distances = squared_distances_to_trusted(context)
        coefficients = shared_places(distances, context.weights, len(distances) - self.f)
        selected = [i for i, coefficient in enumerate(coefficients) if coefficient]
        return Combination(coefficients, sum(coefficients), {"selected": selected})
