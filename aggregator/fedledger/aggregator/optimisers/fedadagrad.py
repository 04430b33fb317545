"""FedAdagrad (Reddi et al. 2021, https://arxiv.org/abs/2003.00295, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.optimisers.adaptive import Adaptive
from fedledger.aggregator.optimisers.base import MOMENTUM, OPTIMISERS
from fedledger.protocol.arithmetic.exact import Float64Array


@OPTIMISERS.register("fedadagrad@1")
@dataclass(frozen=True, kw_only=True)
class FedAdagrad(Adaptive):
    """v ← v + Δ², so steps shrink for good where updates were large; no momentum unless given, as in `Adaptive`."""

    beta1: Annotated[float, MOMENTUM] = 0.0

    def second(self, v: Float64Array, square: Float64Array) -> Float64Array:
        return v + square
