"""Everybody picks an item of a menu of efforts and pays; what an effort costs it is its type, which it alone knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

from fedledger.aggregator.mechanisms.base import Mechanism, Terms
from fedledger.platform.incentives.auditor.settings.base import (
    Action,
    Bounds,
    Instance,
    Player,
    Setting,
    Units,
    addresses,
    between,
)
from fedledger.platform.incentives.theory.contract_theory import Contract, integer_menu, optimal_menu
from fedledger.protocol.errors import ConfigError

ITEM = "item"
USUAL_SCALE = 1_000
"""Units of effort for a unit of frequency, and of pay for one of reward, in the menu that is audited by default."""


@dataclass(frozen=True)
class WorkerType:
    """What an effort e costs a type of worker: fixed + each·e + square·e², in units.

    Parameters
    ----------
    fixed, each, square
        The coefficients.
    item
        Place of the item that is meant for it, from 1; None: the type's own place.
    """

    fixed: Fraction = Fraction(0)
    each: Fraction = Fraction(0)
    square: Fraction = Fraction(0)
    item: int | None = None

    def cost(self, effort: int) -> Fraction:
        """Return what an effort costs it."""
        return self.fixed + self.each * effort + self.square * effort * effort


def contract_types(contract: Contract, scale: int) -> tuple[WorkerType, ...]:
    """Return the types of a contract, for efforts and pays in whole numbers of 1 / ``scale``.

    A type spends μ·(E_com + (ψ/θ)·ζ·c·s·f²), where the effort is f·scale.
    """
    price = Fraction(contract.energy_price)
    unit = price * Fraction(contract.energy(1.0)) / scale
    fixed = price * Fraction(contract.upload_energy) * scale
    return tuple(WorkerType(fixed, square=unit * Fraction(count)) for count in contract.iterations)


def usual_menu() -> list[list[int]]:
    """Return the menu that is audited where none is given: the best one of the paper's parameters, in integers.

    Types that get the same item share one.
    """
    return [list(item) for item in dict.fromkeys(_usual_items())]


def _usual_items() -> list[tuple[int, int]]:
    return integer_menu(optimal_menu(Contract()), USUAL_SCALE)


def _usual_types() -> tuple[WorkerType, ...]:
    """Return the paper's types, each with its place in :func:`usual_menu`."""
    menu, items = usual_menu(), _usual_items()
    types = contract_types(Contract(), USUAL_SCALE)
    return tuple(replace(kind, item=menu.index(list(item)) + 1) for kind, item in zip(types, items, strict=True))


class MenuOfTypes(Setting):
    """A menu: the n-th type of worker is meant to pick the n-th item, and may pick another or work less."""

    name = "menu"
    assumes = (
        "There are as many types of workers as items, equally likely; what an effort costs each type is given, by "
        "default as in Kang et al.'s parameters. Whoever is asked delivers the effort of the item that it picked, "
        "unless it deviates. In three markets of four the budget pays everybody the dearest item."
    )
    takes: ClassVar[frozenset[str]] = frozenset({"types"})

    def __init__(self, mechanism: Mechanism, bounds: Mapping[str, Bounds], given: Mapping[str, Any]) -> None:
        self.items = [(int(effort), int(pay)) for effort, pay in getattr(mechanism, "items", ())]
        super().__init__(mechanism, bounds, given)
        if "types" in given:
            self.types = _types(given["types"])
        elif [list(item) for item in self.items] == usual_menu():
            self.types = _usual_types()
        else:
            self.types = contract_types(Contract(), USUAL_SCALE)
        if any(not 1 <= self._meant(kind) <= len(self.items) for kind in range(len(self.types))):
            raise ConfigError(
                f"The menu has {len(self.items)} items for {len(self.types)} types of workers.",
                'Give types by --given \'{"types": [{"fixed": 0, "each": 2, "item": 1}, …]}\', each with an item.',
            )

    @classmethod
    def suits(cls, mechanism: Mechanism) -> bool:
        return ITEM in mechanism.reports

    def usual_bounds(self, name: str) -> Bounds:
        return Bounds(0, len(self.items)) if name == ITEM else super().usual_bounds(name)

    def draw(self, seed: int, index: int, size: int) -> Instance:
        stream = Instance(seed, index, (), 0).stream("market")
        most = max(effort for effort, _ in self.items)
        players = []
        for address in addresses(stream, size):
            private = {"type": stream.below(len(self.types)), "quality": between(stream, 1, 1_000)}
            players.append(Player(address, private, between(stream, 500_000, 1_000_000), most))
        most_pay = max(pay for _, pay in self.items)
        # Every fourth budget does not pay everybody.
        budget = between(stream, most_pay, size * most_pay) if index % 4 == 3 else size * most_pay
        return Instance(seed, index, tuple(players), budget, rounds=self.rounds)

    def honest(self, instance: Instance) -> list[Action]:
        return [self._pick(self._meant(player.private["type"])) for player in instance.players]

    def deviations(self, instance: Instance, actions: Sequence[Action], place: int, count: int) -> list[Action]:
        own = self._meant(instance.players[place].private["type"])
        found = [self._pick(item) for item in range(1, len(self.items) + 1) if item != own]
        # Whoever works less than its item asks is to be paid nothing for it.
        for item, (effort, _) in enumerate(self.items, 1):
            found += [replace(self._pick(item), effort=less) for less in (0, max(0, effort - 1))]
        return found[: max(count, len(self.items) - 1)]

    def part(self, player: Player, action: Action, parts: int) -> tuple[Player, Action] | None:
        """Return None: an item is picked as a whole."""
        return None

    def cost(self, player: Player, action: Action, terms: Terms) -> Units:
        return self.types[player.private["type"]].cost(self.effort(player, action, terms))

    def _meant(self, kind: int) -> int:
        item = self.types[kind].item
        return kind + 1 if item is None else item

    def _pick(self, item: int) -> Action:
        return Action({name: bounds.cut(item if name == ITEM else 0) for name, bounds in self.bounds.items()})


def _types(given: Any) -> tuple[WorkerType, ...]:
    try:
        return tuple(_type(each) for each in given)
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise ConfigError(
            "The types of workers are not readable.", 'Give for example "types": [{"fixed": 20, "each": "3/2"}].'
        ) from error


def _type(given: Mapping[str, Any]) -> WorkerType:
    fixed, each, square = (Fraction(given.get(name, 0)) for name in ("fixed", "each", "square"))
    return WorkerType(fixed, each, square, given.get("item"))
