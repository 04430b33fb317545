"""Krum and Multi-Krum (Blanchard et al. 2017, https://arxiv.org/abs/1703.02757)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.context.geometry import shared_places, squared_distances, tolerated
from fedledger.aggregator.rules.base import RULES, Combination, LinearRule, RuleContext
from fedledger.protocol.methods.parameters import Checked, Whole


@RULES.register("multi_krum@1")
@dataclass(frozen=True)
class MultiKrum(LinearRule, Checked):
    """The plain mean of the m rows with the least summed squared distance to their n − f − 2 nearest rows.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; lowered to what n ≥ 2f + 3 allows.
    m
        Number of rows that are averaged (1 is Krum), at most n; n − f unless given.
    """

    f: Annotated[int, Whole(0, 4096)]
    m: Annotated[int | None, Whole(1, 4096)] = None

    def __call__(self, context: RuleContext) -> Combination:
        scores, f, most = self._scored(context)
        chosen = set(sorted(range(len(scores)), key=lambda i: (scores[i], i))[:most])
        selected = [i for i in range(len(scores)) if i in chosen]
        return Combination([int(i in chosen) for i in range(len(scores))], len(chosen), {"f": f, "selected": selected})

    def _scored(self, context: RuleContext) -> tuple[list[int], int, int]:
        """Return the score of each row, the f that is tolerated, and how many rows are averaged."""
        n = len(context.gram)
        f = tolerated(self.f, n, spare=3)
        near = max(n - f - 2, 0)
        # The first of each sorted row is the row's own distance, 0.
        scores = [sum(sorted(distances)[1 : near + 1]) for distances in squared_distances(context.gram).tolist()]
        return scores, f, min(n, n - f if self.m is None else self.m)


@RULES.register("multi_krum@2")
@dataclass(frozen=True)
class WeightedMultiKrum(MultiKrum):
    """The weighted mean of the m rows with the least summed squared distance to their n − f − 2 nearest rows.

    Rows that tie for the last places share them: each counts with the same part of its weight.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; lowered to what n ≥ 2f + 3 allows.
    m
        Number of rows that are averaged (1 is Krum), at most n; n − f unless given.
    """

    def __call__(self, context: RuleContext) -> Combination:
        scores, f, most = self._scored(context)
        coefficients = shared_places(scores, context.weights, most)
        selected = [i for i, coefficient in enumerate(coefficients) if coefficient]
        return Combination(coefficients, sum(coefficients), {"f": f, "selected": selected})


@RULES.register("multi_krum@3")
@dataclass(frozen=True)
class StrictMultiKrum(WeightedMultiKrum):
    """The weighted mean of the m rows with the least summed squared distance to their n − f − 2 nearest rows.

    Rows that tie for the last places share them: each counts with the same part of its weight. f is never lowered: a
    round needs n ≥ 2f + 3 rows, and n ≥ m + f.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; a round needs 2f + 3 updates that count.
    m
        Number of rows that are averaged (1 is Krum), at most n − f, which it is unless given.
    """

    @property
    def least_rows(self) -> int:
        """2f + 3: with fewer rows, hostile ones may choose each other's nearest neighbours; and no fewer than m + f."""
        return max(2 * self.f + 3, self.f + (self.m or 0))
