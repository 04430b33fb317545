"""Minimum diameter averaging (El Mhamdi et al. 2018, https://arxiv.org/abs/1802.07927; Rousseeuw 1985)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.context.geometry import squared_distances
from fedledger.aggregator.context.least_rows import NeedsMajority
from fedledger.aggregator.context.smallest_diameter import smallest_diameter
from fedledger.aggregator.rules.base import RULES, Combination, LinearRule, RuleContext
from fedledger.protocol.methods.parameters import Checked, Whole

MAX_STEPS = 1 << 22
"""Rows that the search looks at, at most, which take some seconds."""


@RULES.register("mda@1")
@dataclass(frozen=True)
class MinimumDiameterAveraging(Checked, NeedsMajority, LinearRule):
    """The weighted mean of the n − f rows whose largest distance from each other is least.

    Of several such subsets it is the first in lexicographic order. It is found by branch and bound over exact
    distances, which looks at 2^22 rows at most, and at fewer in large rounds. Beyond that limit, which takes many rows
    of a hard geometry, it is the best that was found, of at most twice the least diameter, and the report says that it
    is not ``exact``.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; a round needs 2f + 1 updates that count.
    """

    f: Annotated[int, Whole(0, 4096)]

    def __call__(self, context: RuleContext) -> Combination:
        closest = smallest_diameter(squared_distances(context.gram), len(context.weights) - self.f, MAX_STEPS)
        coefficients = [0] * len(context.weights)
        for place in closest.places:
            coefficients[place] = context.weights[place]
        notes: dict[str, int | list[int]] = {"selected": closest.places, "exact": int(closest.is_exact)}
        return Combination(coefficients, sum(coefficients), {**notes, "steps": closest.steps})
