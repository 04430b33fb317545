"""Equal pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS


@CONTRIBUTIONS.register("equal@1")
@dataclass(frozen=True)
class Equal:
    """Pay every update that counts the same."""

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        return [1 if weight else 0 for weight in weights]
