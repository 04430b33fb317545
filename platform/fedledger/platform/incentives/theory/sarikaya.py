"""A Stackelberg game about waiting: a publisher pays workers for power, and waits for the slowest of them.

Sarikaya and Ercetin, Motivating Workers in Federated Learning: A Stackelberg Game Perspective, IEEE Networking Letters
2(1), 2020 (arXiv 1908.03092, 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from typing import Annotated

import numpy as np
from scipy.optimize import minimize

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, ListOf, Real, real

MOST_WORKERS = 16
"""Inclusion-exclusion has a term for every subset of workers."""
_Positive = Real(1e-9, 1e9)
_LEAST_SHARE = 1e-9


def expected_maximum(rates: Sequence[float]) -> float:
    """Return the mean of the largest of independent exponential times, Σ_{S≠∅} (−1)^{|S|+1} / Σ_{k∈S} rate_k.

    Parameters
    ----------
    rates
        Their rates, one a unit of time.

    Raises
    ------
    ConfigError
        If there is none, if there are more than 16, or if one is out of bounds.
    """
    if not 1 <= len(rates) <= MOST_WORKERS:
        raise ConfigError(f"There are {len(rates)} workers.", f"Give from 1 to {MOST_WORKERS}.")
    sums, signs = np.zeros(1), np.full(1, -1.0)
    for rate in rates:
        sums = np.concatenate([sums, sums + real("rate", rate, Real(0, 1e18, above=True))])
        signs = np.concatenate([signs, -signs])
    return fsum((signs[1:] / sums[1:]).tolist())


@dataclass(frozen=True)
class Workers(Checked):
    """Workers with exponential times of mean c_k / P_k at power P_k, paid q_k·P_k, whose energy costs κ·c_k·P_k².

    Parameters
    ----------
    cycles
        CPU cycles c_k of each worker's round, in units of power times time.
    kappa
        What energy costs, κ.
    most_power
        The highest power of each, P_max; None: no limit.
    """

    cycles: Annotated[tuple[float, ...], ListOf(_Positive, MOST_WORKERS)]
    kappa: Annotated[float, _Positive] = 1e-3
    most_power: Annotated[float | None, _Positive] = None

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        if not self.cycles:
            raise ConfigError("There is no worker.", "Give the cycles of at least one.")

    def utility(self, place: int, price: float, power: float) -> float:
        """Return a worker's utility, q·P − κ·c·P²."""
        return price * power - self.kappa * self.cycles[place] * power**2

    def best_response(self, place: int, price: float) -> float:
        """Return a worker's best power at a price, min(q / (2·κ·c), P_max)."""
        power = real("price", price, Real(0, 1e18)) / (2 * self.kappa * self.cycles[place])
        return power if self.most_power is None else min(power, self.most_power)

    def price_of(self, place: int, power: float) -> float:
        """Return the least price at which a power is a worker's best, 2·κ·c·P."""
        return 2 * self.kappa * self.cycles[place] * power

    def expected_time(self, powers: Sequence[float]) -> float:
        """Return how long the publisher waits for all of them, on average."""
        return expected_maximum([power / cycles for power, cycles in zip(powers, self.cycles, strict=True)])


@dataclass(frozen=True)
class Prices:
    """The publisher's prices, with the workers' powers at them, what it pays, and how long it waits on average."""

    prices: tuple[float, ...]
    powers: tuple[float, ...]
    spent: float
    expected_time: float


def equal_price(workers: Workers, budget: float) -> float:
    """Return the optimal price of equal workers, q* = √(2·B·κ·c / K), or the least one at which all work at P_max.

    They then work at q* / (2·κ·c) and cost the whole budget, and the publisher waits H_K·c / P*, H_K = 1 + … + 1 / K.

    Raises
    ------
    ConfigError
        If the workers differ, or the budget is out of bounds.
    """
    if len(set(workers.cycles)) > 1:
        raise ConfigError("These workers differ.", "Take the prices of workers that differ.")
    price = sqrt(2 * real("budget", budget, _Positive) * workers.kappa * workers.cycles[0] / len(workers.cycles))
    return price if workers.most_power is None else min(price, workers.price_of(0, workers.most_power))


def optimal_prices(workers: Workers, budget: float) -> Prices:
    """Return the prices with the least expected time within a budget, by numerical optimisation (SLSQP).

    A worker that has the share s of the budget B works at √(B·s / (2·κ·c)). The expected time is a convex function of
    the shares, as that of each worker is, so a local optimum is the optimum.

    Raises
    ------
    ConfigError
        If the budget is out of bounds, or the optimum is not found.
    """
    budget = real("budget", budget, _Positive)
    cycles = np.array(workers.cycles)
    per_square = 2 * workers.kappa * cycles / budget
    limits = np.ones(len(cycles)) if workers.most_power is None else np.minimum(1, per_square * workers.most_power**2)
    if workers.most_power is not None and fsum(per_square * workers.most_power**2) <= 1:
        return _prices(workers, [workers.most_power] * len(cycles))

    def powers(shares: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(np.maximum(shares, _LEAST_SHARE) / per_square))

    start = cycles**3 / (cycles**3).sum()
    start = np.clip(start, np.minimum(_LEAST_SHARE, limits), limits)
    unit = workers.expected_time(powers(start).tolist())
    found = minimize(
        lambda shares: workers.expected_time(powers(shares).tolist()) / unit,
        start,
        method="SLSQP",
        bounds=[(min(_LEAST_SHARE, limit), limit) for limit in limits],
        constraints=[{"type": "ineq", "fun": lambda shares: 1 - shares.sum()}],
        options={"maxiter": 1000, "ftol": 1e-13},
    )
    if not np.isfinite(found.fun):
        raise ConfigError(f"No optimum was found: {found.message}.", "Give workers that differ less.")
    shares = found.x / max(1.0, found.x.sum())
    return _prices(workers, powers(shares).tolist())


def _prices(workers: Workers, powers: Sequence[float]) -> Prices:
    prices = tuple(workers.price_of(place, power) for place, power in enumerate(powers))
    spent = fsum(price * power for price, power in zip(prices, powers, strict=True))
    return Prices(prices, tuple(powers), spent, workers.expected_time(powers))
