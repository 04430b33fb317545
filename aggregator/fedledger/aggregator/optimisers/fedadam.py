"""FedAdam (Reddi et al. 2021, https://arxiv.org/abs/2003.00295, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.optimisers.adaptive import Adaptive
from fedledger.aggregator.optimisers.base import MOMENTUM, OPTIMISERS
from fedledger.protocol.arithmetic.exact import Float64Array


@OPTIMISERS.register("fedadam@1")
@dataclass(frozen=True, kw_only=True)
class FedAdam(Adaptive):
    """v ← β₂v + (1−β₂)Δ²; the rest is as in `Adaptive`.

    Parameters
    ----------
    beta2
        As in the paper.
    """

    beta2: Annotated[float, MOMENTUM] = 0.99

    def second(self, v: Float64Array, square: Float64Array) -> Float64Array:
        return self.beta2 * v + (1 - self.beta2) * square
