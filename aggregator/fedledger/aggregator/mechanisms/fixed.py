"""Pay everybody alike: a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.mechanisms.base import MECHANISMS, Market, MechanismBase, Seen, Terms
from fedledger.aggregator.mechanisms.bids import counted
from fedledger.protocol.methods.parameters import Checked, Whole


@MECHANISMS.register("fixed@1")
@dataclass(frozen=True)
class Fixed(Checked, MechanismBase):
    """Pay the same price for every update that counts; less for all alike if the budget falls short.

    A baseline to compare others with. It promises nothing: who costs more than the price loses by working, and an
    update that barely passes earns as much as the best one, so it pays to work as little as passes.

    Parameters
    ----------
    price
        Units for an update that counts.
    """

    price: Annotated[int, Whole(0, 2**53 - 1)]

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Pay each the price, or its part of the budget."""
        paid = counted(terms, seen)
        return dict.fromkeys(paid, min(self.price, market.budget // max(1, len(paid))))
