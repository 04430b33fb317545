"""The Vickrey auction for several equal tasks, with a reserve price that the budget affords."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.mechanisms.base import (
    INCENTIVE_COMPATIBILITY,
    INDIVIDUAL_RATIONALITY,
    MECHANISMS,
    Market,
    MechanismBase,
    Seen,
    Terms,
)
from fedledger.aggregator.mechanisms.bids import MOST_WINNERS, bid, promised, ranked
from fedledger.protocol.methods.parameters import Checked, Whole


@MECHANISMS.register("vcg@1")
@dataclass(frozen=True)
class Vcg(Checked, MechanismBase):
    """Ask the K who bid least, and promise each the lowest bid that lost (Vickrey 1961; Clarke 1971; Groves 1973).

    A bid is the cost of a round's work. With the reserve price r = ⌊budget / K⌋, or a lower one, bids above r are no
    offers, and the K lowest others win; each is promised min(the (K+1)-th lowest bid, r). That is the highest bid by
    which it would still have won, so in any one round nobody gains by a bid other than its cost, exactly, also in whole
    units: who has a cost between two units bids the upper one. The K winners get no more than K·r, the budget. The
    auction without a reserve price may need more than any budget.

    It does not promise good updates: whoever wins is paid alike, if its update counts. It does not withstand agreements
    among bidders. Two identities of one bidder may raise each other's pay. And it is truthful in each round by itself:
    who expects its bid to change later rounds, such as their budgets, may gain by another.

    Parameters
    ----------
    winners
        K.
    reserve
        A reserve price in units, if it is lower than what the budget affords.
    """

    winners: Annotated[int, Whole(1, MOST_WINNERS)]
    reserve: Annotated[int | None, Whole(0, 2**53 - 1)] = None
    reports: ClassVar[tuple[str, ...]] = ("cost",)
    chooses: ClassVar[bool] = True
    promises: ClassVar[frozenset[str]] = frozenset({INDIVIDUAL_RATIONALITY, INCENTIVE_COMPATIBILITY})

    def select(self, market: Market) -> dict[str, Terms]:
        """Ask the lowest bidders."""
        price = market.budget // self.winners
        if self.reserve is not None:
            price = min(price, self.reserve)
        bids = [(cost, offer.address) for offer in market.offers if (cost := bid(offer)) is not None and cost <= price]
        order = ranked([cost for cost, _ in bids], market.draws)
        if len(bids) > self.winners:
            price = bids[order[self.winners]][0]
        return {bids[place][1]: Terms(price) for place in sorted(order[: self.winners])}

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Pay what was promised."""
        return promised(market.budget, terms, seen)
