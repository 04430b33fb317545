"""The first-score auction for several winners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.mechanisms.base import (
    EQUILIBRIUM,
    INDIVIDUAL_RATIONALITY,
    MECHANISMS,
    Market,
    MechanismBase,
    Offer,
    Seen,
    Terms,
)
from fedledger.aggregator.mechanisms.bids import MOST_WINNERS, bid, promised, ranked
from fedledger.protocol.methods.parameters import Checked, Whole
from fedledger.protocol.records.reputation import PPM


@MECHANISMS.register("fmore@1")
@dataclass(frozen=True)
class FMore(Checked, MechanismBase):
    """Ask the K whose quality is worth most beyond the price that they ask, and pay that price.

    A first-score auction (FMore, Zeng et al. 2020, https://arxiv.org/abs/2002.09699; Che 1993). An offer's score is
    s(q) − p: p is the price that it asks, and s(q) = worth · reputation · min(1, pace / t), where t is what a round
    takes its device. Offers with a score below 0, or a price above ⌊budget / K⌋, do not count. The paper scores what
    participants say of their data and devices; here quality is what the ledger and the task's device table say, so that
    nobody wins by a claim. Equal scores are drawn.

    Promised is an equilibrium, not truth: who asks for no more than its cost earns nothing, so everybody asks for more.
    With n bidders whose greatest possible surplus u is distributed by H, each asks for its cost and the profit
    ∫_{u0}^{u} G / G(u), G(u) = Σ_{i<K} C(n−1, i) (1−H)^i H^{n−1−i}. That holds for bidders who are alike in all but u,
    know n and H, and are not held down by the budget. There are no promises of good updates, nor against agreements.

    Parameters
    ----------
    winners
        K.
    worth
        Units that full quality is worth.
    pace
        In µs; a device that takes longer for a round is worth less in proportion. None: times do not matter. A device
        of which the table says nothing is worth nothing where they do.
    """

    winners: Annotated[int, Whole(1, MOST_WINNERS)]
    worth: Annotated[int, Whole(0, 2**53 - 1)]
    pace: Annotated[int | None, Whole(1, 2**53 - 1)] = None
    reports: ClassVar[tuple[str, ...]] = ("price",)
    chooses: ClassVar[bool] = True
    promises: ClassVar[frozenset[str]] = frozenset({INDIVIDUAL_RATIONALITY, EQUILIBRIUM})

    def select(self, market: Market) -> dict[str, Terms]:
        """Ask the offers of the highest scores."""
        most = market.budget // self.winners
        asked = [(offer, bid(offer, "price")) for offer in market.offers]
        scored = [(self.quality(offer) - p, p, offer.address) for offer, p in asked if p is not None and p <= most]
        scored = [entry for entry in scored if entry[0] >= 0]
        order = ranked([-score for score, _, _ in scored], market.draws)
        return {scored[place][2]: Terms(scored[place][1]) for place in sorted(order[: self.winners])}

    def quality(self, offer: Offer) -> int:
        """Return s(q), what a participant's quality is worth in units."""
        worth = self.worth * offer.reputation // PPM
        if self.pace is None:
            return worth
        return 0 if offer.duration is None else worth * self.pace // max(self.pace, offer.duration)

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Pay what was asked for."""
        return promised(market.budget, terms, seen)
