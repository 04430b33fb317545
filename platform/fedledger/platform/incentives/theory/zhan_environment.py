"""Zhan's game as an environment of gymnasium, for learners of libraries; it needs the extra ``incentives``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from fedledger.platform.incentives.theory.zhan_bandits import NoisyFollowers

Seen = NDArray[np.float32]
ROUNDS = 16
"""Rounds of an episode."""
MEMORY = 4
"""How many past rounds a leader sees."""


class LeaderEnvironment(gymnasium.Env[Seen, Seen]):
    """A leader chooses a reward each round, and sees what it chose and got in the last four.

    An action from −1 to 1 stands for a reward from 0 to the valuation a. A round is seen as τ / a and X / (1 + X); what
    the leader earns is its profit over a.

    Parameters
    ----------
    followers
        The followers.
    """

    def __init__(self, followers: NoisyFollowers) -> None:
        self._followers = followers
        self._past = np.zeros((MEMORY, 2), dtype=np.float32)
        self._played = 0
        self.observation_space = spaces.Box(0.0, 1.0, (2 * MEMORY,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reward_of(self, action: Seen) -> float:
        """Return the reward that an action stands for."""
        return self._followers.game.valuation * (float(np.clip(action[0], -1, 1)) + 1) / 2

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Seen, dict[str, Any]]:
        """Begin an episode, about which nothing is known; ``options`` play no part."""
        super().reset(seed=seed, options=options)
        self._past = np.zeros_like(self._past)
        self._played = 0
        return self._past.ravel(), {}

    def step(self, action: Seen) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """Play a round."""
        game, reward = self._followers.game, self.reward_of(action)
        total = self._followers.contributions(reward, self.np_random)
        seen = np.array([[reward / game.valuation, total / (1 + total)]], dtype=np.float32)
        self._past = np.concatenate([self._past[1:], seen])
        self._played += 1
        profit = game.leader_profit(total, reward) / game.valuation
        return self._past.ravel(), profit, False, self._played >= ROUNDS, {}
