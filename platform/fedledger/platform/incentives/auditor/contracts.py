"""Menus of the contract theory, also wrong ones, as mechanisms that an audit can look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from fedledger.aggregator.mechanisms.base import (
    INCENTIVE_COMPATIBILITY,
    INDIVIDUAL_RATIONALITY,
    Market,
    MechanismBase,
    Seen,
    Terms,
)
from fedledger.platform.incentives.auditor.settings.menu import ITEM, USUAL_SCALE
from fedledger.platform.incentives.theory.contract_theory import (
    Contract,
    Menu,
    integer_menu,
    optimal_menu,
    relaxed_menu,
    tight_menu,
)
from fedledger.protocol.errors import ConfigError

PREFIX = "contract:"
"""A menu of :data:`MENUS` is named so."""


@dataclass(frozen=True)
class PostedMenu(MechanismBase):
    """Ask everybody for the effort of the item that it picked, and pay that item's pay for it.

    Any items are taken as they are: ``contract_menu@1`` refuses menus that do not ascend.

    Parameters
    ----------
    items
        Pairs of effort and pay.
    """

    items: tuple[tuple[int, int], ...]
    reports: ClassVar[tuple[str, ...]] = (ITEM,)
    chooses: ClassVar[bool] = True
    promises: ClassVar[frozenset[str]] = frozenset({INDIVIDUAL_RATIONALITY, INCENTIVE_COMPATIBILITY})

    def select(self, market: Market) -> dict[str, Terms]:
        """Ask in the order of addresses for as long as the budget pays the dearest item."""
        most = max(pay for _, pay in self.items)
        asked: dict[str, Terms] = {}
        for offer in market.offers:
            if 1 <= offer.report[ITEM] <= len(self.items) and most * (len(asked) + 1) <= market.budget:
                effort, pay = self.items[offer.report[ITEM] - 1]
                asked[offer.address] = Terms(pay, {"examples": effort})
        return asked

    def pay(self, market: Market, terms: Mapping[str, Terms], seen: Mapping[str, Seen]) -> dict[str, int]:
        """Pay who did what it was asked for."""
        return {
            address: each.price
            for address, each in terms.items()
            if address in seen and seen[address].accepted and seen[address].examples >= each.asked["examples"]
        }


def contract_named(name: str) -> PostedMenu:
    """Return a menu of Kang et al.'s default parameters: ``contract:`` and ``optimal``, ``relaxed`` or ``tight``.

    The relaxed one leaves out that efforts must ascend, the tight one leaves no type anything; both are wrong.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    kind = name.removeprefix(PREFIX)
    if kind == "optimal":
        return PostedMenu(tuple(integer_menu(optimal_menu(Contract()), USUAL_SCALE)))
    if kind == "relaxed":
        return PostedMenu(_rounded(relaxed_menu(Contract())))
    if kind == "tight":
        return PostedMenu(_rounded(tight_menu(Contract())))
    raise ConfigError(f"There is no menu {name!r}.", f"There are: {', '.join(PREFIX + each for each in MENUS)}.")


MENUS = ("optimal", "relaxed", "tight")


def _rounded(menu: Menu) -> tuple[tuple[int, int], ...]:
    """Return efforts rounded down and pays up, so that nobody loses by rounding."""
    return tuple((int(item.frequency * USUAL_SCALE), ceil(item.reward * USUAL_SCALE)) for item in menu.items)
