"""The budgeted auction by proportional shares, with reputation as value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from fedledger.aggregator.mechanisms.bids import bid, promised, ranked
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.methods.parameters import Checked, Whole
from fedledger.protocol.records.reputation import PPM

_VALUE_BITS = 20
"""Values are no larger than 2 to this."""


def shares_of_budget(
    bids: Sequence[int], values: Sequence[int], budget: int, draws: Callable[[], Stream]
) -> dict[int, int]:
    """Return what each winner is paid, by its place, in units.

    In the order of bid / value, bidders win as long as b_i ≤ v_i · B / Σ_{j ≤ i} v_j. Winner i is paid ⌊v_i · min(B /
    Σ_W v, b_{k+1} / v_{k+1})⌋, with k+1 the first that lost. Every lower bid would have won, and no higher one; this
    bid itself may lose by the drawn order, where winning with it brings nothing.

    Parameters
    ----------
    bids
        Units, at least 0.
    values
        1 to 2^20.
    budget
        B, in units.
    draws
        Makes the stream from which the order of equal ratios is drawn.
    """
    # Two ratios that differ do so by 2^-40 at least, so their integer parts in units of that differ, too.
    order = ranked([(b << 2 * _VALUE_BITS) // v for b, v in zip(bids, values, strict=True)], draws)
    total, won = 0, 0
    for place in order:
        if bids[place] * (total + values[place]) > values[place] * budget:
            break
        total += values[place]
        won += 1
    pays = {place: values[place] * budget // total for place in order[:won]}
    if won < len(order):
        lost = order[won]
        return {place: min(pay, values[place] * bids[lost] // values[lost]) for place, pay in pays.items()}
    return pays


@MECHANISMS.register("proportional_share@1")
@dataclass(frozen=True)
class ProportionalShare(Checked, MechanismBase):
    """Ask those who bid least for their reputation, as many as the budget affords.

    Proportional shares of a budget (Singer 2010, https://arxiv.org/abs/1002.2334; with reputation as value RRAFL, Zhang
    et al. 2021, https://doi.org/10.1145/3442381.3449888). A bid b is the cost of a round's work, and the value v of an
    offer its owner's reputation. In the order of b / v, offers win as long as b_i ≤ v_i · B / Σ_{j ≤ i} v_j; winner i
    is promised v_i · min(B / Σ_W v, b_{k+1} / v_{k+1}), rounded down, where k+1 is the first that lost. For bids in
    whole units this is exact: as bids are whole, nobody is promised less than its bid, and rounding down leaves out
    only what no bid can be. So nobody gains by a bid other than its cost in any one round; who has a cost between two
    units bids the upper one. All of it is no more than the budget B. Whoever has no reputation makes no offer.

    It does not promise good updates: reputation is what the past says. Promised is only what the round costs at these
    bids, so some of the budget is usually left. It does not withstand agreements among bidders, nor several identities
    of one: a new name starts with a newcomer's reputation, which still wins something where bids are few. And it is
    truthful in each round by itself: a bid that loses also forgoes the reputation that the round would have brought.

    Parameters
    ----------
    least_reputation
        Who has less, in parts per million, makes no offer.
    """

    least_reputation: Annotated[int, Whole(1, PPM)] = 1
    reports: ClassVar[tuple[str, ...]] = ("cost",)
    chooses: ClassVar[bool] = True
    promises: ClassVar[frozenset[str]] = frozenset({INDIVIDUAL_RATIONALITY, INCENTIVE_COMPATIBILITY})

    def select(self, market: Market) -> dict[str, Terms]:
        """Ask the winners."""
        least = self.least_reputation
        offers = [offer for offer in market.offers if offer.reputation >= least and bid(offer) is not None]
        bids = [bid(offer) or 0 for offer in offers]
        pays = shares_of_budget(bids, [offer.reputation for offer in offers], market.budget, market.draws)
        return {offers[place].address: Terms(pays[place]) for place in sorted(pays)}

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Pay what was promised."""
        return promised(market.budget, terms, seen)
