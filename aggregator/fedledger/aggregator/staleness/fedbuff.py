"""The weight of FedBuff."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from fedledger.aggregator.staleness.base import ONE, STALENESS


@STALENESS.register("fedbuff@1")
@dataclass(frozen=True)
class FedBuff:
    """s(τ) = 1 / √(1 + τ) (Nguyen et al. 2022, section 5).

    Parameters
    ----------
    mix_models
        See the module.
    """

    mix_models: bool = False

    def __call__(self, staleness: int) -> int:
        return round(ONE / sqrt(1.0 + staleness))
