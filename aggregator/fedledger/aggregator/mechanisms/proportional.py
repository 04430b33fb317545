"""Pay in proportion to contribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedledger.aggregator.mechanisms.base import MECHANISMS, Market, MechanismBase, Seen, Terms
from fedledger.aggregator.mechanisms.bids import counted
from fedledger.protocol.records.settlement import apportion


@MECHANISMS.register("proportional@1")
@dataclass(frozen=True)
class Proportional(MechanismBase):
    """Divide each round's budget in proportion to the scores of the task's contribution method.

    Largest remainders, so that all of the budget is paid wherever anybody scores; it is what a task without a mechanism
    does. What is promised is what the contribution method promises, no more.
    """

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Divide the budget."""
        paid = counted(terms, seen)
        return dict(zip(paid, apportion(market.budget, [seen[address].score for address in paid]), strict=True))
