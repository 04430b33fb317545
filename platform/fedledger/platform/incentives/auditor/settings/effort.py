"""Everybody chooses how much to work, in an equilibrium that is found by best responses to what the mechanism pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from fedledger.aggregator.mechanisms.base import EQUILIBRIUM, Learning, Market, Mechanism, Offer, Terms
from fedledger.platform.incentives.auditor.settings.base import (
    LEARNING_ROUNDS,
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
from fedledger.platform.incentives.auditor.settings.play import Game, NoEquilibriumError, chosen, learned, paid_by

MOST_EFFORT = 10_000
USUAL_EFFORT = 500
SETTLED = 1.0
"""Units: once nobody gains more by any step that it tries, the players have settled."""
SWEEPS = 200
MILLIONTHS = 1_000_000


class Effort(Setting):
    """A game of contributions: each example costs its owner something, and pay goes by how many were trained on.

    Where the mechanism asks for reports, such as of power, what is lent is what is reported, and its cost grows with
    its square.
    """

    name = "effort"
    assumes = (
        "Effort costs its owner a share of a unit that it alone knows, for each example; where efforts are reported, "
        "such as power, cost grows with their square. Costs are drawn so that about 500 examples are an equilibrium of "
        "equal players. Everybody chooses at most 10,000, does and reports what it chooses, and commits to it. Efforts "
        "are an equilibrium of one round, to the unit, that best responses to the mechanism's own pay settle in; of a "
        "mechanism that learns from rounds, after none to three rounds of usual efforts."
    )
    keeps_to_truth = False

    @classmethod
    def suits(cls, mechanism: Mechanism) -> bool:
        return EQUILIBRIUM in mechanism.promises

    def draw(self, seed: int, index: int, size: int) -> Instance:
        empty = Instance(seed, index, (), 0)
        stream = empty.stream("market")
        owners = addresses(stream, size)
        budget = between(stream, 50_000, 500_000)
        middle = self._middle_cost(owners, budget, empty)
        players = []
        for owner in owners:
            cost = max(1, int(middle * between(stream, 500, 1_500) / 1_000))
            players.append(Player(owner, {"cost_ppm": cost, "quality": 1}, 1_000_000, MOST_EFFORT))
        return self._after_usual_rounds(Instance(seed, index, tuple(players), budget))

    def honest(self, instance: Instance) -> list[Action]:
        efforts = [USUAL_EFFORT] * len(instance.players)
        for _ in range(SWEEPS):
            settled = True
            for place, effort in enumerate(efforts):
                game = Game(self, instance, [Action(self._report(each), each) for each in efforts])
                usual = game.outcome().utility(place)
                best, gain = effort, Fraction(0)
                for tried in _steps(effort):
                    more = game.deviated(place, Action(self._report(tried), tried)).utility(place) - usual
                    if more > gain:
                        best, gain = tried, Fraction(more)
                if gain > SETTLED:
                    settled, efforts[place] = False, best
            if settled:
                return [Action(self._report(each), each) for each in efforts]
        raise NoEquilibriumError(f"Best responses have not settled in an equilibrium after {SWEEPS} sweeps.")

    def deviations(self, instance: Instance, actions: Sequence[Action], place: int, count: int) -> list[Action]:
        stream = instance.stream("deviations", address=instance.players[place].address)
        efforts = [_effort_of(action) for action in actions]
        others = [effort for at, effort in enumerate(efforts) if at != place]
        wrong = wrong_numbers(efforts[place], Bounds(0, MOST_EFFORT), others, stream, count)
        return [Action(self._report(effort), effort) for effort in wrong]

    def cost(self, player: Player, action: Action, terms: Terms) -> Units:
        effort = self.effort(player, action, terms)
        # A reported effort costs as much by the unit at the usual effort, but grows with its square.
        grown = Fraction(effort * effort, 2 * USUAL_EFFORT) if self.bounds else effort
        return Fraction(player.private["cost_ppm"] * grown, MILLIONTHS)

    def _after_usual_rounds(self, instance: Instance) -> Instance:
        """Return the market after some rounds, if the mechanism learns from them."""
        before = instance.index % LEARNING_ROUNDS if isinstance(self.mechanism, Learning) else 0
        if not before:
            return instance
        usual = [Action(self._report(USUAL_EFFORT), USUAL_EFFORT) for _ in instance.players]
        last = Game(self, replace(instance, rounds=before), usual).outcome().rounds[-1]
        return replace(instance, before=before, tables=learned(self.mechanism, last))

    def _report(self, effort: int) -> Mapping[str, int]:
        return {name: bounds.cut(effort) for name, bounds in self.bounds.items()}

    def _middle_cost(self, owners: Sequence[str], budget: int, empty: Instance) -> int:
        """Return millionths of a unit of effort at which :data:`USUAL_EFFORT` is an equilibrium of equal players."""
        offers = [Offer(owner, self._report(USUAL_EFFORT), 1_000_000, MOST_EFFORT) for owner in owners]
        market = Market(offers, budget, 1, 1, lambda: empty.stream("mechanism", 1))
        terms = chosen(self.mechanism, market)
        player = Player("", {"quality": 1}, 1_000_000, MOST_EFFORT)
        work = self.delivered(player, Action({}, USUAL_EFFORT), Terms())
        paid = sum(paid_by(self.mechanism, market, terms, dict.fromkeys(terms, work)).values())
        count = len(owners)
        # Who lends what it reports does not compete: its cost by the usual effort grows as its pay does.
        return max(1, paid * MILLIONTHS * (count if self.bounds else count - 1) // (count * count * USUAL_EFFORT))


def _steps(effort: int) -> list[int]:
    """Return what a player tries: to stop, the usual effort, and steps of 1, 2, 4 … both ways."""
    steps = [1 << power for power in range(MOST_EFFORT.bit_length())]
    near = [0, USUAL_EFFORT, *(effort + step for step in steps), *(effort - step for step in steps)]
    return [tried for tried in dict.fromkeys(near) if tried != effort and 0 <= tried <= MOST_EFFORT]


def _effort_of(action: Action) -> int:
    return 0 if action.effort is None else action.effort
