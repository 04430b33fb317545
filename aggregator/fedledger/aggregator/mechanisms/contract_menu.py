"""A menu of contracts: so much work for so much pay."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
from fedledger.aggregator.mechanisms.bids import affordable, counted, ranked
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, ListOf, Whole
from fedledger.protocol.records.reputation import PPM

EXAMPLES = "examples"
MOST_ITEMS = 64


@MECHANISMS.register("contract_menu@1")
@dataclass(frozen=True)
class ContractMenu(Checked, MechanismBase):
    """Let each choose from a menu how much it works and for what pay.

    So do contracts with reputation (Kang et al. 2019, https://doi.org/10.1109/JIOT.2019.2940820). What a
    participant reports is its item's place in the menu, from 1 on; any other number means none. It is paid the item's
    pay if its update counts and rests on as many examples as the item asks for, and nothing otherwise. A menu is made
    for types of participants so that each type does best with its own item and loses nothing by it. Reputation is the
    paper's gate: who has less than the least is not asked.

    Where the budget falls short, those of higher reputation come first (equal ones in a drawn order), and each gets the
    largest item, up to its own, that is left for. So nobody's choice changes its turn, or what is
    left by then; and where a type prefers smaller items the more the closer they come to its own, as in a menu that
    suits its types, each type still does best with its own.

    Both promises are the menu's: one that does not suit its types breaks them. A menu whose efforts or pays do not
    ascend is refused, as nobody would choose some of its items. Nothing is promised for types that the menu was not
    made for, nor that whoever delivers the examples trains on them well.

    Parameters
    ----------
    items
        Pairs of effort, in examples, and pay, in units; both ascend.
    least_reputation
        Who has less, in parts per million, is not asked.
    """

    items: Annotated[Sequence[Sequence[int]], ListOf(ListOf(Whole(0, 2**53 - 1), 2), MOST_ITEMS)]
    least_reputation: Annotated[int, Whole(0, PPM)] = 0
    reports: ClassVar[tuple[str, ...]] = ("item",)
    chooses: ClassVar[bool] = True
    believes: ClassVar[str] = "Examples are what each says unless the task has participants commit to their data."
    promises: ClassVar[frozenset[str]] = frozenset({INDIVIDUAL_RATIONALITY, INCENTIVE_COMPATIBILITY})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.items or any(len(item) != 2 for item in self.items):
            raise ConfigError("items is no menu.", "Give at least one pair of effort and pay.")
        for (effort, pay), (more, higher) in pairwise(self.items):
            if more <= effort or higher <= pay:
                raise ConfigError(
                    f"After effort {effort} for {pay} the menu has effort {more} for {higher}.",
                    "Let efforts and pays ascend: merge items that a type would not choose.",
                )

    def select(self, market: Market) -> dict[str, Terms]:
        """Ask each for the item that it chose, as far as the budget goes."""
        pays = [pay for _, pay in self.items]
        chosen = [
            (offer.reputation, item, offer.address)
            for offer in market.offers
            if 1 <= (item := offer.report.get("item", 0)) <= len(pays) and offer.reputation >= self.least_reputation
        ]
        left, given = market.budget, dict[int, int]()
        for place in ranked([-reputation for reputation, _, _ in chosen], market.draws):
            item = min(chosen[place][1], bisect_right(pays, left))
            if not item:
                break
            given[place] = item - 1
            left -= pays[item - 1]
        return {
            chosen[place][2]: Terms(pays[given[place]], {EXAMPLES: self.items[given[place]][0]})
            for place in sorted(given)
        }

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Pay who has done what its item asks for."""
        done = (a for a in counted(terms, seen) if seen[a].examples >= terms[a].asked.get(EXAMPLES, 0))
        return affordable(market.budget, {address: terms[address].price for address in done})
