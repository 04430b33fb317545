"""A truthful auction with a budget that learns how good updates are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from fedledger.aggregator.mechanisms import whole_tallies
from fedledger.aggregator.mechanisms.base import (
    INCENTIVE_COMPATIBILITY,
    INDIVIDUAL_RATIONALITY,
    MECHANISMS,
    Market,
    MechanismBase,
    Offer,
    Seen,
    Terms,
)
from fedledger.aggregator.mechanisms.bids import MOST_WINNERS, bid, counted, promised, ranked
from fedledger.aggregator.mechanisms.proportional_share import shares_of_budget
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Whole
from fedledger.protocol.records.reputation import PPM

_COLUMNS = 2
_NEW = (0, 0)
_ROUNDS = "rounds"


@MECHANISMS.register("truthful_bandit@1")
@dataclass(frozen=True)
class TruthfulBandit(Checked, MechanismBase):
    """Learn by trials whose updates are good, and buy them in a truthful auction with a budget.

    Trials are apart from bids, and pay is critical (Babaioff et al. 2014, https://arxiv.org/abs/0812.2291; Singer 2010;
    Wei et al. 2024 for federated bandits). Costs are private and change: they are reported. Quality and availability
    are learned. With K = ``tries_a_round`` and the reserve price r = ⌊budget / K⌋, a bid above r means that its owner
    is not available. One of ``every`` rounds that count, beginning with the first, is a *trial*: it draws K of all who
    made an offer, whatever they bid, first those who were tried least; of them, those who are available are asked for
    the price r. The trial's quality is min(1, n·s_i / 2Σs), with s_i the score and n the number of updates that count,
    or 0 where the update did not count or its owner was not available. The other rounds are auctions by proportional
    shares (``proportional_share@1``) whose values are mean qualities, (prior + Σ quality) / (1 + tries); nobody is
    promised more than r.

    In each auction, pay is the highest bid that wins, and in each trial it is r: nobody gains by a bid other than its
    cost in any one round. Over rounds, what is learned comes from trials alone, and who is tried does not depend on
    bids: as long as one's cost is at most r, bids up to r all lead to the same estimates for ever, and a higher one
    gives up the round and, if drawn, counts as a failed trial. So truth is best for good, not only in a round, for who
    costs no more than r. Whoever costs more at times may gain by working at a loss in a trial to keep its estimate.

    The price of it is that only trials teach: no deterministic mechanism that is truthful over rounds learns as fast as
    one that is not (Babaioff et al.). Nothing is promised against participants who deliver well in trials alone,
    against agreements, or several identities: ``prior`` is low, so that a new name is worth less than a good one.

    Parameters
    ----------
    tries_a_round
        K, how many a trial draws.
    every
        One of so many rounds is a trial.
    prior
        Quality of who was never tried, in parts per million; an average update has 500,000.
    remembered
        After so many trials of a participant, each new one takes the place of an average old one: quality may change.
    """

    tries_a_round: Annotated[int, Whole(1, MOST_WINNERS)]
    every: Annotated[int, Whole(1, 1_000_000)] = 5
    prior: Annotated[int, Whole(1, PPM)] = 250_000
    remembered: Annotated[int, Whole(1, 1_000_000)] = 50
    reports: ClassVar[tuple[str, ...]] = ("cost",)
    chooses: ClassVar[bool] = True
    promises: ClassVar[frozenset[str]] = frozenset({INDIVIDUAL_RATIONALITY, INCENTIVE_COMPATIBILITY})

    def select(self, market: Market) -> dict[str, Terms]:
        """Ask for trials, or hold the auction."""
        price = market.budget // self.tries_a_round
        kept = whole_tallies.read(market.tables, _COLUMNS)
        if self._is_trial(market):
            return {o.address: Terms(price) for o in self._drawn(market, kept) if _is_available(o, price)}
        offers = [offer for offer in market.offers if _is_available(offer, price)]
        values = [self.value(kept.get(offer.address.lower(), _NEW)) for offer in offers]
        pays = shares_of_budget([bid(offer) or 0 for offer in offers], values, market.budget, market.draws)
        return {offers[place].address: Terms(min(price, pays[place])) for place in sorted(pays)}

    def value(self, known: tuple[int, ...]) -> int:
        """Return a mean quality in parts per million, from the number of trials and the sum of their qualities."""
        tries, total = known
        return max(1, min(PPM, (self.prior + total) // (1 + tries)))

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Pay what was promised."""
        return promised(market.budget, terms, seen)

    def table_size(self, participants: int) -> int:
        """Return the number of integers: trials and qualities of each, and how many rounds there were."""
        return whole_tallies.size(participants, _COLUMNS) + 1

    def learn(
        self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen], paid: Mapping[str, int]
    ) -> Mapping[str, IntArray]:
        """Add the qualities of a trial."""
        kept = whole_tallies.read(market.tables, _COLUMNS)
        rounds = np.array([min(_rounds(market) + 1, whole_tallies.LARGEST)], np.int64)
        if self._is_trial(market):
            qualities = _qualities(terms, seen)
            for offer in self._drawn(market, kept):
                tries, total = kept.get(offer.address.lower(), _NEW)
                if tries >= self.remembered:
                    tries, total = tries - 1, total - total // tries
                kept[offer.address.lower()] = tries + 1, total + qualities.get(offer.address, 0)
        return {**whole_tallies.stored(kept, _COLUMNS), _ROUNDS: rounds}

    def _is_trial(self, market: Market) -> bool:
        return _rounds(market) % self.every == 0

    def _drawn(self, market: Market, kept: whole_tallies.Rows) -> list[Offer]:
        """Return who is tried: it depends on who made an offer, and on no bid."""
        tries = [kept.get(offer.address.lower(), _NEW)[0] for offer in market.offers]
        return [market.offers[place] for place in sorted(ranked(tries, market.draws)[: self.tries_a_round])]


def _is_available(offer: Offer, price: int) -> bool:
    cost = bid(offer)
    return cost is not None and cost <= price


def _rounds(market: Market) -> int:
    """Return how many rounds counted before."""
    kept = market.tables.get(_ROUNDS, np.zeros(1, np.int64))
    if kept.shape != (1,):
        raise ConfigError("What was kept of rounds is of another mechanism.", "Use the state of the last round.")
    return int(kept[0])


def _qualities(terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
    """Return the quality of each update that counts, in parts per million; an average one has half."""
    paid = counted(terms, seen)
    total = 2 * max(1, sum(seen[address].score for address in paid))
    return {address: min(PPM, PPM * len(paid) * seen[address].score // total) for address in paid}
