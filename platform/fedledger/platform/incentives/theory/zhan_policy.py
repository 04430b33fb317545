"""A leader of Zhan's game that learns by policy gradient what to pay, as the paper's does: PPO of Stable-Baselines3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.platform.incentives.theory.zhan_bandits import NoisyFollowers
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real, Whole, whole

_UNITS = 8


@dataclass(frozen=True)
class PolicyGradient(Checked):
    """Proximal policy optimisation (Schulman et al., arXiv 1707.06347, 2017) of a policy with 8 hidden units.

    The discount is 0, as what a leader pays has no effect beyond its round. The step size falls linearly to 0.

    Parameters
    ----------
    rounds
        How many rounds it plays, at least; batches are whole.
    step_size
        Adam's step size at the beginning.
    batch
        Rounds between two improvements.
    spread
        Logarithm of the standard deviation of actions at the beginning.
    """

    rounds: Annotated[int, Whole(2, 10**8)] = 20_000
    step_size: Annotated[float, Real(0, 1, above=True)] = 1e-2
    batch: Annotated[int, Whole(2, 10**6)] = 256
    spread: Annotated[float, Real(-10, 2)] = -1.0

    def learn(self, followers: NoisyFollowers, seed: int) -> float:
        """Play all rounds, and return the reward that the policy chooses at the end of an episode, without chance.

        It seeds the random numbers of Python and NumPy, as the library does, and leaves torch's as they were.

        Parameters
        ----------
        followers
            Whom it plays against.
        seed
            Everything that is drawn follows from it.

        Raises
        ------
        ConfigError
            If Stable-Baselines3 is not installed, or the seed is out of bounds.
        """
        try:
            from stable_baselines3 import PPO

            from fedledger.platform.incentives.theory.zhan_environment import ROUNDS, LeaderEnvironment
        except ImportError as error:
            raise ConfigError(
                "Stable-Baselines3 is not installed.", "Install it: pip install 'fedledger[incentives]'."
            ) from error
        import torch

        with torch.random.fork_rng(devices=[]):
            learner = PPO(
                "MlpPolicy",
                LeaderEnvironment(followers),
                learning_rate=lambda left: self.step_size * left,
                n_steps=self.batch,
                batch_size=self.batch,
                gamma=0.0,
                gae_lambda=0.0,
                policy_kwargs={"net_arch": [_UNITS], "log_std_init": self.spread},
                seed=whole("seed", seed, 0, 2**32 - 1),
                device="cpu",
            )
            learner.learn(self.rounds)
        shown = LeaderEnvironment(NoisyFollowers(followers.game, 0.0))
        seen, _ = shown.reset(seed=seed)
        action, _ = learner.predict(seen, deterministic=True)
        for _ in range(ROUNDS - 1):
            seen, *_ = shown.step(action)
            action, _ = learner.predict(seen, deterministic=True)
        return shown.reward_of(action)
