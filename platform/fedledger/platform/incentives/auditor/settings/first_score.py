"""Bidders ask for more than their costs, as in the equilibrium of a first-score auction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from fedledger.aggregator.mechanisms.base import EQUILIBRIUM, Mechanism, Offer, Terms
from fedledger.platform.incentives.auditor.settings.base import (
    COSTS,
    Action,
    Bounds,
    Instance,
    Player,
    Setting,
    Units,
    addresses,
    between,
)
from fedledger.platform.incentives.theory.fmore import Auction, uniform
from fedledger.protocol.errors import ConfigError

LEAST_REPUTATION = 900_000
MARKUPS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0)
"""Who deviates asks for so much of the equilibrium's profit."""


@runtime_checkable
class FirstScore(Protocol):
    """An auction in which the highest quality less price wins, and is paid the price."""

    @property
    def winners(self) -> int:
        """How many win."""
        ...

    def quality(self, offer: Offer) -> int:
        """Return what a participant's quality is worth, in units."""
        ...


class FirstScoreBids(Setting):
    """A first-score auction: bidders are alike in all but their surplus, which each alone knows."""

    name = "first-score bids"
    assumes = (
        "Each bidder's surplus, its quality's worth less its cost, is drawn evenly from 0 to eight tenths of the worth "
        "at reputation .9; all know how surpluses are drawn and how many bid; the budget holds nobody down. Everybody "
        "asks for its cost and the profit ∫G/G(u) of the equilibrium of Che, rounded to a unit."
    )
    keeps_to_truth = False
    in_the_mean = True

    def __init__(self, mechanism: Mechanism, bounds: Mapping[str, Bounds], given: Mapping[str, Any]) -> None:
        self.price = next((name for name in mechanism.reports if name in COSTS), None)
        if self.price is None or not isinstance(mechanism, FirstScore):
            raise ConfigError(
                "The mechanism is no first-score auction.", "Give it a report price, winners and quality(offer)."
            )
        self._auction: FirstScore = mechanism
        self._profits: dict[tuple[int, int], float] = {}
        super().__init__(mechanism, bounds, given)
        self._most = 8 * self._auction.quality(Offer("", reputation=LEAST_REPUTATION)) // 10

    @classmethod
    def suits(cls, mechanism: Mechanism) -> bool:
        return EQUILIBRIUM in mechanism.promises and isinstance(mechanism, FirstScore)

    def usual_bounds(self, name: str) -> Bounds:
        return Bounds(0, (1 << 53) - 1)

    def draw(self, seed: int, index: int, size: int) -> Instance:
        stream = Instance(seed, index, (), 0).stream("market")
        players = []
        for address in addresses(stream, size):
            reputation = between(stream, LEAST_REPUTATION, 1_000_000)
            surplus = between(stream, 0, self._most)
            cost = self._auction.quality(Offer(address, reputation=reputation)) - surplus
            players.append(Player(address, {"cost": cost, "surplus": surplus}, reputation, 100))
        budget = 2 * self._auction.winners * self._auction.quality(Offer("", reputation=1_000_000))
        return Instance(seed, index, tuple(players), budget, rounds=self.rounds)

    def honest(self, instance: Instance) -> list[Action]:
        return [self._asking(instance, player, 1.0) for player in instance.players]

    def deviations(self, instance: Instance, actions: Sequence[Action], place: int, count: int) -> list[Action]:
        player = instance.players[place]
        more = [MARKUPS[-1] + step for step in range(1, count - len(MARKUPS) + 1)]
        return [self._asking(instance, player, markup) for markup in (*MARKUPS, *more)]

    def cost(self, player: Player, action: Action, terms: Terms) -> Units:
        return player.private["cost"]

    def _asking(self, instance: Instance, player: Player, markup: float) -> Action:
        profit = self._profit(len(instance.players), player.private["surplus"])
        price = player.private["cost"] + round(markup * profit)
        return Action({name: price if name == self.price else 0 for name in self.bounds})

    def _profit(self, size: int, surplus: int) -> float:
        if (size, surplus) not in self._profits:
            if size <= self._auction.winners:
                # Whoever bids wins: only a score of 0 limits what it asks for.
                return float(surplus)
            auction = Auction(size, self._auction.winners, uniform(0, self._most))
            self._profits[size, surplus] = auction.profit(surplus)
        return self._profits[size, surplus]
