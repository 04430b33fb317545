"""What auctions have in common: bids, their order, and their winners' pay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fedledger.aggregator.mechanisms.base import Offer, Seen, Terms
from fedledger.protocol.arithmetic.random_streams import Stream

MOST_WINNERS = 1 << 20


def bid(offer: Offer, name: str = "cost") -> int | None:
    """Return a reported number, at least 0; None if it was not reported."""
    told = offer.report.get(name)
    return None if told is None else max(0, told)


def ranked(keys: Sequence[int], draws: Callable[[], Stream]) -> list[int]:
    """Return the places of keys in ascending order; equal ones in an order that is drawn, whatever the keys are.

    Address order would favour whoever has made an address that comes first.
    """
    order = sorted(range(len(keys)), key=keys.__getitem__)
    if len(set(keys)) == len(keys):
        return order
    lots = draws().sample(range(len(keys)), len(keys))
    return sorted(lots, key=keys.__getitem__)


def counted(terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> list[str]:
    """Return whose updates count of those whom the round has asked, in the order of their addresses."""
    accepted = (address for address in terms if address in seen and seen[address].accepted)
    return sorted(accepted, key=str.lower)


def affordable(budget: int, pays: Mapping[str, int]) -> dict[str, int]:
    """Return pay as it is if a budget has it, or else each in proportion, rounded down."""
    total = sum(pays.values())
    if total <= budget:
        return dict(pays)
    return {address: units * budget // total for address, units in pays.items()}


def promised(budget: int, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
    """Return the price of everybody whose update counts; less for each in proportion if the budget has less."""
    return affordable(budget, {address: terms[address].price for address in counted(terms, seen)})
