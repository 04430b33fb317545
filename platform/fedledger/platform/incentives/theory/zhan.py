"""A Stackelberg game: a leader posts a total reward, and followers share it in proportion to what they contribute.

Zhan, Li, Qu, Zeng and Guo, A Learning-Based Incentive Mechanism for Federated Learning, IEEE Internet of Things Journal
7(7), 2020. The followers' game is a lottery contest of Tullock (1980), which has one equilibrium.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, inf, log1p, sqrt
from typing import Annotated

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, ListOf, Real, real, whole

MOST_FOLLOWERS = 10_000
Cost = Real(1e-9, 1e9)
_Reward = Real(0, 1e12)
_PATIENCE = 20


@dataclass(frozen=True)
class Game(Checked):
    """A leader, whose profit is a·ln(1 + X) − τ, and followers, each with the utility x_n / X·τ − c_n·x_n; X = Σ x.

    Parameters
    ----------
    costs
        What a unit of contribution costs each follower, c_n, in units of reward; at least two.
    valuation
        What contributions are worth to the leader, a, in units of reward.
    """

    costs: Annotated[tuple[float, ...], ListOf(Cost, MOST_FOLLOWERS)]
    valuation: Annotated[float, Real(0, 1e9, above=True)] = 10.0

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        if len(self.costs) < 2:
            raise ConfigError("Fewer than two followers compete.", "Give the costs of at least two.")

    @property
    def active(self) -> tuple[int, ...]:
        """Places of the followers that contribute: the cheapest M, the most with (M − 1)·c_M < C = Σ_{m≤M} c_m.

        Who stays out depends on costs alone, whatever the reward.
        """
        order = sorted(range(len(self.costs)), key=self.costs.__getitem__)
        total, chosen = 0.0, list[int]()
        for place in order:
            total += self.costs[place]
            if len(chosen) * self.costs[place] >= total:
                break
            chosen.append(place)
        return tuple(sorted(chosen))

    @property
    def yield_of_reward(self) -> float:
        """Contributions in equilibrium for a unit of reward, X / τ = (M − 1) / C."""
        active = self.active
        return (len(active) - 1) / fsum(self.costs[place] for place in active)

    def follower_utility(self, place: int, contributions: Sequence[float], reward: float) -> float:
        """Return a follower's utility, x / X·τ − c·x; nobody is paid where nobody contributes."""
        own, total = contributions[place], fsum(contributions)
        return (own / total * reward if total > 0 else 0.0) - self.costs[place] * own

    def leader_profit(self, total: float, reward: float) -> float:
        """Return the leader's profit from contributions X at a reward τ, a·ln(1 + X) − τ."""
        return self.valuation * log1p(total) - reward

    def equilibrium(self, reward: float) -> tuple[float, ...]:
        """Return the followers' contributions in equilibrium, x_m = (M − 1)·τ / C·(1 − (M − 1)·c_m / C), or 0 outside.

        Raises
        ------
        ConfigError
            If the reward is out of bounds.
        """
        reward = real("reward", reward, _Reward)
        share = self.yield_of_reward
        active = frozenset(self.active)
        return tuple(
            share * reward * (1 - share * cost) if place in active else 0.0 for place, cost in enumerate(self.costs)
        )

    def optimal_reward(self) -> float:
        """Return the leader's optimum, τ* = a − C / (M − 1), or 0 if no reward is worth its price."""
        return max(0.0, self.valuation - 1 / self.yield_of_reward)

    def best_response(self, place: int, contributions: Sequence[float], reward: float, least: float = 1e-12) -> float:
        """Return a follower's best contribution, √(τ·S / c) − S, where the others contribute S.

        Parameters
        ----------
        place
            Place of the follower, from 0.
        contributions
            All followers' contributions; the follower's own plays no part.
        reward
            The total reward τ.
        least
            What it gives where the others give nothing: any contribution then has the whole reward, and there is no
            best one.
        """
        others = fsum(contributions) - contributions[place]
        if others <= 0:
            return least
        return max(0.0, sqrt(reward * others / self.costs[place]) - others)


def play_best_responses(
    game: Game, reward: float, start: Sequence[float], sweeps: int = 10_000, tolerance: float = 1e-12
) -> tuple[float, ...]:
    """Return contributions after followers, one after another, moved part of the way to their best responses.

    They first go half the way, and half as far whenever they came no closer for some sweeps. Whole steps need not
    converge where costs differ (Ghosh and Goldberg, Best-Response Dynamics in Lottery Contests, EC 2023).

    Parameters
    ----------
    game
        The followers.
    reward
        The total reward τ.
    start
        Contributions to begin with, at least one of them above 0.
    sweeps
        After how many turns of all followers to stop at the latest.
    tolerance
        Largest distance to a best response, as a share of the largest contribution, at which they stop.

    Raises
    ------
    ConfigError
        If a number is out of bounds, nobody contributes at the start, or they have not converged.
    """
    reward = real("reward", reward, _Reward)
    contributions = [real("start", each, _Reward) for each in start]
    if len(contributions) != len(game.costs) or not any(contributions):
        raise ConfigError("The start does not suit the followers.", "Give each a number, and one of them above 0.")
    step, closest, since = 0.5, inf, 0
    for _ in range(whole("sweeps", sweeps, 1, 10**9)):
        away = 0.0
        for place, own in enumerate(contributions):
            move = game.best_response(place, contributions, reward) - own
            contributions[place] = own + step * move
            away = max(away, abs(move))
        if away <= tolerance * max(contributions):
            return tuple(contributions)
        since = 0 if away < closest else since + 1
        closest = min(closest, away)
        if since == _PATIENCE:
            step, closest, since = step / 2, away, 0
    raise ConfigError(f"Best responses have not converged after {sweeps:,} sweeps.", "Allow more sweeps.")
