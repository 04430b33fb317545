"""A weight that falls with a power of the staleness."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Annotated

from fedledger.aggregator.staleness.base import ONE, STALENESS
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real


@STALENESS.register("polynomial@1")
@dataclass(frozen=True)
class Polynomial(Checked):
    """s(τ) = (1 + τ)^−a (Xie et al. 2019, section 5.2).

    Parameters
    ----------
    exponent
        a, a multiple of ½ up to 32: so that products, quotients and square roots suffice.
    mix_models
        See the module.
    """

    exponent: Annotated[float, Real(0, 32)] = 0.5
    mix_models: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if 2 * self.exponent != int(2 * self.exponent):
            raise ConfigError(f"exponent is {self.exponent!r}.", "Give a multiple of 0.5, up to 32.")

    def __call__(self, staleness: int) -> int:
        value, age = 1.0, float(1 + staleness)
        wholes, half = divmod(int(2 * self.exponent), 2)
        for _ in range(wholes):
            value /= age
        return round(ONE * (value / sqrt(age) if half else value))
