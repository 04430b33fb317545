"""One reward that is shared in proportion to data, and that the publisher learns from round to round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Annotated, ClassVar

import numpy as np

from fedledger.aggregator.mechanisms.base import EQUILIBRIUM, MECHANISMS, Market, MechanismBase, Seen, Terms
from fedledger.aggregator.mechanisms.bids import counted
from fedledger.aggregator.mechanisms.zhan import CLAIMED, shared
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.arithmetic.logarithm import ln_ppm
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, ListOf, Whole

MOST_REWARDS = 256
_ARMS = "arms"
_LARGEST = 1 << 62
_MOST_TRIES = 1 << 20


@MECHANISMS.register("zhan_learned@1")
@dataclass(frozen=True)
class ZhanLearned(Checked, MechanismBase):
    """Share one reward as ``zhan@1`` does, and learn how large it best is.

    The game has a leader that learns (Zhan et al. 2020, https://doi.org/10.1109/JIOT.2020.2967772), here by UCB1 (Auer
    et al. 2002). Each round is a trial of one of the ``rewards``: first each once, then the one with the highest mean
    utility plus exploration · √(ln t / n), of t trials in all and n of its own. The publisher's utility of a round is
    worth · ln(1 + X / unit) − τ, with X the examples of the updates that count and a logarithm in integers. In place of
    the paper's deep reinforcement learning this can be replayed by everybody: counts and sums are in the state.

    It settles where the best of its rewards is, provided that participants answer each reward with the equilibrium for
    it. It promises the equilibrium of ``zhan@1`` in each round. Participants who look further may hold back when the
    reward is low, so that it learns to pay more; and examples that are only claimed teach it what claims cost.

    Parameters
    ----------
    rewards
        What it tries, in units, ascending; where the budget has less, that is shared.
    worth
        Units that a publisher gives for X examples, over ln(1 + X / unit).
    unit
        Examples that count as one in the logarithm.
    exploration
        Units by which a reward's mean may be wrong after one trial; 0: once each was tried, the best one stays.
    """

    rewards: Annotated[Sequence[int], ListOf(Whole(0, 2**40), MOST_REWARDS)]
    worth: Annotated[int, Whole(0, 2**32)]
    unit: Annotated[int, Whole(1, 2**53 - 1)] = 1
    exploration: Annotated[int, Whole(0, 2**32)] = 0
    believes: ClassVar[str] = CLAIMED
    promises: ClassVar[frozenset[str]] = frozenset({EQUILIBRIUM})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rewards or list(self.rewards) != sorted(set(self.rewards)):
            raise ConfigError("rewards do not ascend.", "Give at least one, and each once, in ascending order.")

    def reward(self, market: Market) -> int:
        """Return what a round's participants share, in units: it follows from what was learned before."""
        return min(self.rewards[self._arm(market.tables)], market.budget)

    def best(self, tables: Mapping[str, IntArray]) -> int:
        """Return the reward with the highest mean utility so far, in units; the lowest one where none was tried."""
        arms = self._arms(tables)
        tried = [place for place, (tries, _) in enumerate(arms) if tries]
        return self.rewards[max(tried, key=lambda place: arms[place][1] // arms[place][0], default=0)]

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Share the round's reward."""
        return shared(self.reward(market), terms, seen)

    def table_size(self, participants: int) -> int:
        """Count and sum of each reward."""
        return 2 * len(self.rewards)

    def learn(
        self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen], paid: Mapping[str, int]
    ) -> Mapping[str, IntArray]:
        """Add the round's utility to what is known of its reward, in thousandths of units."""
        arms = self._arms(market.tables)
        examples = sum(max(0, seen[address].examples) for address in counted(terms, seen))
        gained = self.worth * (ln_ppm(self.unit + examples) - ln_ppm(self.unit)) // 1000 - 1000 * sum(paid.values())
        tries, total = arms[self._arm(market.tables)]
        if tries < _MOST_TRIES:
            arms[self._arm(market.tables)] = [tries + 1, max(-_LARGEST, min(_LARGEST, total + gained))]
        return {_ARMS: np.array(arms, np.int64)}

    def _arm(self, tables: Mapping[str, IntArray]) -> int:
        """Return which reward is tried."""
        arms = self._arms(tables)
        untried = next((place for place, (tries, _) in enumerate(arms) if not tries), None)
        if untried is not None:
            return untried
        width = self.exploration**2 * ln_ppm(sum(tries for tries, _ in arms))
        bounds = [total // tries + isqrt(width // tries) for tries, total in arms]
        return bounds.index(max(bounds))

    def _arms(self, tables: Mapping[str, IntArray]) -> list[list[int]]:
        kept = tables.get(_ARMS, np.zeros((len(self.rewards), 2), np.int64))
        if kept.shape != (len(self.rewards), 2) or (kept[:, 0] < 0).any():
            raise ConfigError("What was kept of rewards is of another mechanism.", "Use the state of the last round.")
        return [list(map(int, arm)) for arm in kept]
