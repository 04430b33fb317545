"""Everybody does the same round's work, and alone knows what that costs and how good it is."""

from __future__ import annotations

from collections.abc import Sequence

from fedledger.aggregator.mechanisms.base import Mechanism, Terms
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
    wrong_numbers,
)

MOST_COST = 1_000
QUALITIES = Bounds(1, 1_000)
EXAMPLES = Bounds(50, 1_000)


class FixedWork(Setting):
    """Auctions and shares of a pot: what is asked of everybody is given, and so is what it costs them."""

    name = "fixed work"
    assumes = (
        "Each player's work costs it a whole number of units of 1 to 1,000, which it alone knows; whoever is asked "
        "delivers what it is asked for, and it is accepted; contribution is examples × quality, whatever was reported."
    )

    @classmethod
    def suits(cls, mechanism: Mechanism) -> bool:
        return True

    def usual_bounds(self, name: str) -> Bounds:
        if name in COSTS:
            return Bounds(0, 10 * MOST_COST)
        return {"quality": QUALITIES, "examples": Bounds(0, 10 * EXAMPLES.most)}.get(name, Bounds(0, 1_000))

    def draw(self, seed: int, index: int, size: int) -> Instance:
        stream = Instance(seed, index, (), 0).stream("market")
        # Every fourth market has many equal costs, where ties decide.
        step = MOST_COST // 4 if index % 4 == 3 else 1
        players = []
        for address in addresses(stream, size):
            private = {"cost": step * between(stream, 1, MOST_COST // step), "quality": between(stream, 1, 1_000)}
            private |= {
                name: between(stream, bounds.least, min(bounds.most, bounds.least + 1_000))
                for name, bounds in self.bounds.items()
                if name not in COSTS | {"quality", "examples"}
            }
            reputation = 1_000_000 if index % 2 else between(stream, 100_000, 1_000_000)
            players.append(Player(address, private, reputation, between(stream, EXAMPLES.least, EXAMPLES.most)))
        budget = between(stream, MOST_COST, MOST_COST * size)
        # In every fifth market a round needs some updates to count.
        least = between(stream, 1, max(1, size // 2)) if index % 5 == 4 else 1
        return Instance(seed, index, tuple(players), budget, least, self.rounds)

    def honest(self, instance: Instance) -> list[Action]:
        return [Action({name: self._truth(player, name) for name in self.bounds}) for player in instance.players]

    def deviations(self, instance: Instance, actions: Sequence[Action], place: int, count: int) -> list[Action]:
        if not self.bounds:
            return []
        report = actions[place].report
        stream = instance.stream("misreports", address=instance.players[place].address)
        share = -(-count // len(self.bounds))
        found = []
        for name, bounds in self.bounds.items():
            others = [action.report[name] for at, action in enumerate(actions) if at != place]
            wrong = wrong_numbers(report[name], bounds, others, stream, share)
            found += [Action({**report, name: value}) for value in wrong]
        return found

    def cost(self, player: Player, action: Action, terms: Terms) -> Units:
        return player.private["cost"]

    def _truth(self, player: Player, name: str) -> int:
        if name == "examples":
            return player.examples
        return self.bounds[name].cut(player.private["cost" if name in COSTS else name])
