"""One reward that is shared in proportion to the data that each trains on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.mechanisms.base import EQUILIBRIUM, MECHANISMS, Market, MechanismBase, Seen, Terms
from fedledger.aggregator.mechanisms.bids import counted
from fedledger.protocol.methods.parameters import Checked, Whole
from fedledger.protocol.records.settlement import apportion

CLAIMED = "Examples are what each says unless the task has participants commit to their data."


def shared(reward: int, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
    """Divide a reward in proportion to the examples of the updates that count, by largest remainders."""
    paid = counted(terms, seen)
    return dict(zip(paid, apportion(reward, [max(0, seen[address].examples) for address in paid]), strict=True))


@MECHANISMS.register("zhan@1")
@dataclass(frozen=True)
class Zhan(Checked, MechanismBase):
    """Share one reward in proportion to the examples that each trains on.

    A Stackelberg game (Zhan et al. 2020, https://doi.org/10.1109/JIOT.2020.2967772). Participant n, whom an example
    costs c_n, trains on x_n of them and has the utility x_n / Σx · τ − c_n x_n. In the one equilibrium of M
    participants, x_m = (M−1) τ / C · (1 − (M−1) c_m / C) with C = Σc, as long as (M−1) c_m < C; whoever costs more
    stays away. A publisher to whom X examples are worth a · ln(1 + X) does best with τ = a − C / (M−1), which
    ``zhan_learned@1`` finds by trying.

    Promised is that equilibrium, where everybody knows everybody's cost. It is none of quality: examples count alike,
    noisy or copied. By examples that are only claimed, whoever claims most earns most without any work.

    Parameters
    ----------
    reward
        τ, in units; where the budget has less, that.
    """

    reward: Annotated[int, Whole(0, 2**53 - 1)]
    believes: ClassVar[str] = CLAIMED
    promises: ClassVar[frozenset[str]] = frozenset({EQUILIBRIUM})

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Share the reward."""
        return shared(min(self.reward, market.budget), terms, seen)
