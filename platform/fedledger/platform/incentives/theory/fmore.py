"""FMore: a first-score auction, in which the K bids with the highest scores win and are paid what they asked.

Zeng, Zhang, Wang and Chu, FMore: An Incentive Scheme of Multi-dimensional Auction for Federated Learning in MEC, ICDCS
2020, after Che, Design Competition through Multidimensional Auctions, RAND Journal of Economics 24(4), 1993.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import comb
from typing import Annotated

from scipy.integrate import quad

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real, Whole

Distribution = Callable[[float], float]
"""The probability H(u) that a node's surplus is at most u."""


def uniform(low: float = 0.0, high: float = 1.0) -> Distribution:
    """Return the uniform distribution between two surpluses.

    Raises
    ------
    ConfigError
        If the first is not below the second.
    """
    if not low < high:
        raise ConfigError(f"{low:g} is not below {high:g}.", "Give the lower surplus first.")
    return lambda u: min(1.0, max(0.0, (u - low) / (high - low)))


@dataclass(frozen=True)
class Auction(Checked):
    """An auction among N nodes of which K win.

    A node of the surplus u = max_q (s(q) − c(q)) offers the quality at which that is reached, and asks for its cost and
    a profit; its score is s(q) − p = u − profit. Surpluses are independent and have the same distribution.

    Parameters
    ----------
    nodes
        N.
    winners
        K, fewer than the nodes.
    distribution
        H, which must be continuous.
    least
        The lowest surplus u0, at which H is 0.
    """

    nodes: Annotated[int, Whole(2, 1000)]
    winners: Annotated[int, Whole(1, 999)]
    distribution: Distribution = field(default_factory=uniform)
    least: Annotated[float, Real(-1e12, 1e12)] = 0.0

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        if self.winners >= self.nodes:
            raise ConfigError("All nodes win, whatever they ask.", "Let fewer win than bid.")

    def win_probability(self, u: float) -> float:
        """Return G(u) = Σ_{i<K} C(N−1, i)·(1 − H)^i·H^{N−1−i}: fewer than K of the others have more than u."""
        h, others = self.distribution(u), self.nodes - 1
        return sum(comb(others, i) * (1 - h) ** i * h ** (others - i) for i in range(self.winners))

    def profit(self, u: float) -> float:
        """Return what a node of the surplus u asks beyond its cost in equilibrium: ∫_{u0}^{u} G / G(u); 0 if G(u) is.

        Raises
        ------
        ConfigError
            If u is below the least surplus.
        """
        if u < self.least:
            raise ConfigError(f"{u:g} is below the least surplus, {self.least:g}.", "Give a surplus that occurs.")
        chance = self.win_probability(u)
        if chance <= 0:
            return 0.0
        area, _ = quad(self.win_probability, self.least, u, epsabs=0.0, epsrel=1e-10, limit=200)
        return float(area / chance)

    def score(self, u: float) -> float:
        """Return the score that a node of the surplus u bids in equilibrium, which increases with u."""
        return u - self.profit(u)

    def expected_utility(self, u: float, claimed: float) -> float:
        """Return the expected utility of a node of the surplus u that bids the score of one of ``claimed``."""
        return (u - self.score(claimed)) * self.win_probability(claimed)
