"""Pay by weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedledger.aggregator.contributions.base import CONTRIBUTIONS
from fedledger.aggregator.context.round_features import RoundFeatures


@CONTRIBUTIONS.register("weight@1")
@dataclass(frozen=True)
class Weight:
    """Pay by the weight in the aggregate: reputation times examples."""

    def __call__(self, seen: RoundFeatures, weights: Sequence[int]) -> list[int]:
        return list(weights)
