"""Leaders of Zhan's game that know no costs and learn what to pay: bandits over a grid of rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.platform.incentives.theory.zhan import Game
from fedledger.protocol.methods.parameters import Checked, OneOf, Real, Whole, whole

EPSILON_GREEDY, UCB = "epsilon_greedy", "ucb"


@dataclass(frozen=True)
class NoisyFollowers(Checked):
    """What a leader sees of its followers: their contributions, which vary from round to round.

    Parameters
    ----------
    game
        The game, whose costs the leader does not know. Followers play its equilibrium.
    noise
        Standard deviation of the logarithm of a round's contributions.
    """

    game: Game
    noise: Annotated[float, Real(0, 1)] = 0.01

    def contributions(self, reward: float, rng: np.random.Generator) -> float:
        """Return a round's contributions at a reward."""
        total = self.game.yield_of_reward * reward
        return float(total * np.exp(self.noise * rng.standard_normal() - self.noise**2 / 2))

    def profit(self, reward: float, rng: np.random.Generator) -> float:
        """Return the leader's profit of a round at a reward."""
        return self.game.leader_profit(self.contributions(reward, rng), reward)


@dataclass(frozen=True)
class Bandit(Checked):
    """A bandit over rewards from 0 to the leader's valuation, equally spaced; it never pays more than that.

    Parameters
    ----------
    strategy
        ``ucb``: the reward with the highest mean plus ``width``·a·√(2·ln t / n), after Auer, Cesa-Bianchi and Fischer
        (2002); ``epsilon_greedy``: with the probability min(1, ``width``·k / t) any of the k rewards, else that of the
        highest mean; the same paper's, without its gap between means, which nobody knows.
    arms
        Number k of rewards.
    rounds
        How many rounds it plays.
    width
        How much it explores. For ``ucb`` it is that share of the valuation a by which profits of a round scatter.
    """

    strategy: Annotated[str, OneOf((EPSILON_GREEDY, UCB))] = UCB
    arms: Annotated[int, Whole(2, 10_000)] = 101
    rounds: Annotated[int, Whole(2, 10**7)] = 20_000
    width: Annotated[float, Real(0, 1e3, above=True)] = 0.01

    def rewards(self, game: Game) -> np.ndarray:
        """Return the rewards to choose from, ascending."""
        return np.linspace(0.0, game.valuation, self.arms)

    def learn(self, followers: NoisyFollowers, seed: int) -> float:
        """Play all rounds, and return the reward with the highest mean profit of those that it tried most often.

        These are the rewards that it tried at least half as often as any other.

        Parameters
        ----------
        followers
            Whom it plays against.
        seed
            Everything that is drawn follows from it.
        """
        rng = np.random.Generator(np.random.PCG64(whole("seed", seed, 0, 2**53 - 1)))
        rewards = self.rewards(followers.game)
        tried, means = np.zeros(self.arms), np.zeros(self.arms)
        for turn in range(self.rounds):
            arm = turn if turn < self.arms else self._choose(turn, tried, means, followers.game.valuation, rng)
            profit = followers.profit(float(rewards[arm]), rng)
            tried[arm] += 1
            means[arm] += (profit - means[arm]) / tried[arm]
        often = np.where(2 * tried >= tried.max(), means, -np.inf)
        return float(rewards[int(np.argmax(often))])

    def _choose(self, turn: int, tried: np.ndarray, means: np.ndarray, scale: float, rng: np.random.Generator) -> int:
        if self.strategy == UCB:
            return int(np.argmax(means + self.width * scale * np.sqrt(2 * np.log(turn) / tried)))
        if rng.random() < min(1.0, self.width * self.arms / turn):
            return int(rng.integers(self.arms))
        return int(np.argmax(means))
