"""Pay by weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS


@CONTRIBUTIONS.register("weight@1")
@dataclass(frozen=True)
class Weight:
    """Pay by the weight in the aggregate: reputation times examples."""

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        return list(weights)
