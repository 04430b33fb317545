"""Pay by what an update gains by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Estimate


@CONTRIBUTIONS.register("held_out_gain@1")
@dataclass(frozen=True)
class HeldOutGain:
    """Pay by how much an eighth of the update alone betters the base model on the held-out examples.

    Score i = max(0, v(base + u_i / 8) − v(base) − t), with v the margin or else the negative loss in millionths, and t
    twice its tolerance. Single updates are scored by their loss in Lidin et al. 2025, https://arxiv.org/abs/2505.21684,
    too, whose other loss, on examples that the sender was assigned, nobody can measure here. It needs no measurement
    that a round does not make anyway.

    Known failures: copies all earn what one earns; it does not see whether the others know the same already; whoever
    trains on examples like the held-out ones earns most; a larger step in the same direction earns more.
    """

    def estimates(self, context: StageContext, weights: Sequence[int]) -> Sequence[Estimate | None]:
        """Return each update's gain, in millionths."""
        gains = context.features.worths
        return [Estimate(gain) if weight else None for gain, weight in zip(gains, weights, strict=True)]

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        """Return the gains beyond doubt."""
        gains = context.features.worths
        return [max(0, gain - context.doubt) if weight else 0 for gain, weight in zip(gains, weights, strict=True)]
