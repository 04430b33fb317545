"""Pay by weight and direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS

SCALE = 1 << 20


@CONTRIBUTIONS.register("alignment@1")
@dataclass(frozen=True)
class Alignment:
    """Pay by weight times the cosine to the robust centre, so an update without direction earns little.

    The cosine to an aggregate as a contribution is after Xu et al. 2021 (CGSV); here the centre is the
    coordinate-wise median, which a minority cannot move at will.
    """

    needs_centre: ClassVar[bool] = True

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        return [
            weight * round(max(0.0, context.features.cosine(i, context.features.centre)) * SCALE)
            for i, weight in enumerate(weights)
        ]
