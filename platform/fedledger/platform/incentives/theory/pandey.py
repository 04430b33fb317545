"""A client's best local accuracy for a reward, by Lambert's W.

Pandey, Tran, Bennis, Tun, Manzoor and Hong, A Crowdsourcing Framework for On-Device Federated Learning, IEEE
Transactions on Wireless Communications 19(5), 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Annotated

from scipy.special import lambertw

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real

MOST_EXPONENT = 700.0
"""Beyond it, exp(−g) is no normal double."""


@dataclass(frozen=True)
class Client(Checked):
    """A client that solves its problem to the relative accuracy θ, and gets r·(1 − θ) for it.

    Its cost is (1 + θ)·(ν·T + (1 − ν)·γ·ln(1 / θ)): rounds, of which there are the more the less accurate it is, times
    what each takes.

    Parameters
    ----------
    reward
        r, in units of cost.
    upload
        T, the cost of communication in a round.
    weight
        ν, how much communication weighs against computation.
    computation
        γ, the cost of computation for a factor e of accuracy.
    """

    reward: Annotated[float, Real(0, 1e9)]
    upload: Annotated[float, Real(0, 1e9)]
    weight: Annotated[float, Real(0, 1, below=True)]
    computation: Annotated[float, Real(0, 1e9, above=True)] = 1.0

    @property
    def exponent(self) -> float:
        """The exponent g = (r + ν·T) / ((1 − ν)·γ) − 1."""
        return (self.reward + self.weight * self.upload) / ((1 - self.weight) * self.computation) - 1

    def utility(self, theta: float) -> float:
        """Return the client's utility at an accuracy θ above 0 and at most 1."""
        cost = self.weight * self.upload + (1 - self.weight) * self.computation * log(1 / theta)
        return self.reward * (1 - theta) - (1 + theta) * cost

    def best_accuracy(self) -> float:
        """Return the best θ* = −1 / W_{−1}(−e^{−g}), the root of 1/θ − ln(1/θ) = g; 1, for no work, where g ≤ 1.

        The utility is concave in θ, so that nothing else is better.

        Raises
        ------
        ConfigError
            If g is above 700.
        """
        g = self.exponent
        if g <= 1:
            return 1.0
        if g > MOST_EXPONENT:
            raise ConfigError(f"g is {g:g}.", f"Give rewards and costs of which it is at most {MOST_EXPONENT:g}.")
        return float(-1 / lambertw(-exp(-g), -1).real)
