"""A weight that falls beyond some staleness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.staleness.base import ONE, STALENESS
from fedledger.protocol.methods.parameters import Checked, Real, Whole


@STALENESS.register("hinge@1")
@dataclass(frozen=True)
class Hinge(Checked):
    """s(τ) = 1 up to τ = b, and 1 / (a (τ − b) + 1) beyond (Xie et al. 2019, section 5.2).

    Parameters
    ----------
    a
        How fast the weight falls, above 0.
    b
        Largest staleness that costs nothing.
    mix_models
        See the module.
    """

    a: Annotated[float, Real(0, 1e12, above=True)] = 10.0
    b: Annotated[int, Whole(0, 65_535)] = 4
    mix_models: bool = False

    def __call__(self, staleness: int) -> int:
        return ONE if staleness <= self.b else round(ONE / (self.a * (staleness - self.b) + 1.0))
