"""A price for each unit of computing power."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.mechanisms.base import EQUILIBRIUM, MECHANISMS, Market, MechanismBase, Offer, Seen, Terms
from fedledger.aggregator.mechanisms.bids import affordable, bid, counted
from fedledger.protocol.methods.parameters import Checked, Whole


@MECHANISMS.register("sarikaya@1")
@dataclass(frozen=True)
class Sarikaya(Checked, MechanismBase):
    """Pay a price for each unit of the computing power that participants lend to a round.

    Worker k, who needs c_k cycles and whom power P costs κ c_k P², has the utility q P − κ c_k P²
    (Sarikaya and Ercetin 2019, https://arxiv.org/abs/1908.03092). It lends P = min(q / (2 κ c_k), its most). The price
    that lets K equal workers finish soonest on average within a budget B is q = √(2 B κ c / K). Here each reports the
    power that it lends until the next bidding round, and the price is the same for all. Where the budget falls short,
    all earn less in proportion.

    The equilibrium is that of a publisher who sees how fast each works; nobody does here. With ``work`` and the task's
    device table, power counts no further than what the device has by it. Otherwise whoever reports most earns most, as
    long as its updates come in time.

    Parameters
    ----------
    price
        q, in units for each unit of power.
    work
        Units of power × µs that a round takes: a device that takes d µs by the task's table has no more power than
        work / d. None: the table does not matter.
    """

    price: Annotated[int, Whole(0, 2**53 - 1)]
    work: Annotated[int | None, Whole(1, 2**62)] = None
    reports: ClassVar[tuple[str, ...]] = ("power",)
    believes: ClassVar[str] = "Power is what each reports, limited by the task's device table at best."
    promises: ClassVar[frozenset[str]] = frozenset({EQUILIBRIUM})

    def power(self, offer: Offer) -> int:
        """Return how much power of a participant counts."""
        reported = bid(offer, "power") or 0
        if self.work is None or offer.duration is None:
            return reported
        return min(reported, self.work // max(1, offer.duration))

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Pay for power."""
        powers = {offer.address: self.power(offer) for offer in market.offers}
        pays = {address: self.price * powers.get(address, 0) for address in counted(terms, seen)}
        return affordable(market.budget, pays)
