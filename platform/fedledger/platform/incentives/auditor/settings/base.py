"""Economic settings: who the players are, what they know of themselves, what they do, and what it costs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from hashlib import sha256
from typing import Any, ClassVar

from fedledger.aggregator.mechanisms.base import Learning, Mechanism, Seen, Terms
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.arithmetic.random_streams import Stream, derive_seed
from fedledger.protocol.errors import ConfigError

Units = int | Fraction
"""Units of credit; a cost may be a fraction of one."""

COSTS = frozenset({"cost", "price", "bid"})
"""Reports of what a round's work costs whoever reports."""
LEARNING_ROUNDS = 4
"""So many rounds are played where a mechanism keeps tables: who deviates does so in each of them."""
FACTORS = (Fraction(1, 2), Fraction(3, 4), Fraction(9, 10), Fraction(11, 10), Fraction(5, 4), Fraction(2))
"""A report is wrong by such a factor."""


@dataclass(frozen=True)
class Bounds:
    """From where to where a reported number may be, both included."""

    least: int
    most: int

    def cut(self, value: int) -> int:
        """Return the number in the bounds that is nearest."""
        return min(max(value, self.least), self.most)


@dataclass(frozen=True)
class Player:
    """A participant.

    Parameters
    ----------
    address
        Its owner's address.
    private
        What it alone knows, whole numbers by name: what its work costs it, how good it is.
    reputation
        In parts per million; everybody knows it.
    examples
        How many examples it has committed to; everybody knows it.
    """

    address: str
    private: Mapping[str, int]
    reputation: int
    examples: int


@dataclass(frozen=True)
class Action:
    """What a player does.

    Parameters
    ----------
    report
        What it reports in the bidding round.
    effort
        How many examples it trains on; None: as many as it is asked for, or all that it has.
    """

    report: Mapping[str, int] = field(default_factory=dict)
    effort: int | None = None


@dataclass(frozen=True)
class Instance:
    """A random market.

    Parameters
    ----------
    seed
        The audit's.
    index
        Which instance of that seed.
    players
        In the order of their addresses.
    budget
        Units that each round may pay.
    least
        With fewer players a round does not count.
    rounds
        How many rounds are played on the same reports.
    before
        How many rounds were played before.
    tables
        What the mechanism kept of them.
    """

    seed: int
    index: int
    players: tuple[Player, ...]
    budget: int
    least: int = 1
    rounds: int = 1
    before: int = 0
    tables: Mapping[str, IntArray] = field(default_factory=dict)

    @cached_property
    def digest(self) -> bytes:
        """What all that is random in it follows from."""
        return sha256(f"fedledger mechanism audit {self.seed} {self.index}".encode()).digest()

    def stream(self, purpose: str, round_index: int = 0, address: str = "") -> Stream:
        """Return the random stream of a purpose."""
        return Stream(derive_seed(self.digest, purpose, round_index, address))


class Setting(ABC):
    """What a mechanism is audited in.

    Parameters
    ----------
    mechanism
        The mechanism.
    bounds
        Those of the numbers that it asks for; a setting has its own for names that are left out.
    given
        What else a setting is told, as JSON.
    """

    name: ClassVar[str]
    assumes: ClassVar[str]
    """What an audit in it takes for granted, in sentences."""
    keeps_to_truth: ClassVar[bool] = True
    """Whether players tell the truth unless they deviate; if not, they play an equilibrium."""
    in_the_mean: ClassVar[bool] = False
    """Whether an equilibrium is one of expected gains, over the others' types."""
    takes: ClassVar[frozenset[str]] = frozenset()
    """The names of what else it is told."""

    def __init__(self, mechanism: Mechanism, bounds: Mapping[str, Bounds], given: Mapping[str, Any]) -> None:
        if unknown := given.keys() - self.takes:
            raise ConfigError(
                f"The setting {self.name} takes no {', '.join(sorted(unknown))}.",
                f"It takes {', '.join(sorted(self.takes)) or 'nothing: leave out --given'}.",
            )
        self.mechanism = mechanism
        self.bounds = {name: bounds.get(name, self.usual_bounds(name)) for name in mechanism.reports}

    @classmethod
    @abstractmethod
    def suits(cls, mechanism: Mechanism) -> bool:
        """Return whether it is the setting that a mechanism is made for."""

    def usual_bounds(self, name: str) -> Bounds:
        """Return between which numbers a report is where nobody says so."""
        return Bounds(0, 10_000)

    @property
    def rounds(self) -> int:
        """How many rounds are played on the same reports."""
        return LEARNING_ROUNDS if isinstance(self.mechanism, Learning) else 1

    @abstractmethod
    def draw(self, seed: int, index: int, size: int) -> Instance:
        """Return a random market of so many players."""

    @abstractmethod
    def honest(self, instance: Instance) -> list[Action]:
        """Return what the players do who do not deviate: they tell the truth, or play an equilibrium."""

    @abstractmethod
    def deviations(self, instance: Instance, actions: Sequence[Action], place: int, count: int) -> list[Action]:
        """Return what else a player might do, at least ``count`` actions; none if it has no choice."""

    def delivered(self, player: Player, action: Action, terms: Terms) -> Seen:
        """Return what a round makes of a player's update."""
        examples = self.effort(player, action, terms)
        score = examples * player.private.get("quality", 1000)
        return Seen(accepted=True, weight=examples, score=score, examples=examples, steps=examples)

    @abstractmethod
    def cost(self, player: Player, action: Action, terms: Terms) -> Units:
        """Return what a round's work costs a player that is asked."""

    def part(self, player: Player, action: Action, parts: int) -> tuple[Player, Action] | None:
        """Return one of equal parts into which a player splits itself, its data and its work; None if it cannot."""
        report = {
            name: value // parts if name in COSTS | {"examples"} else value for name, value in action.report.items()
        }
        private = {name: value // parts if name in COSTS else value for name, value in player.private.items()}
        effort = None if action.effort is None else action.effort // parts
        return replace(player, private=private, examples=player.examples // parts), Action(report, effort)

    @staticmethod
    def effort(player: Player, action: Action, terms: Terms) -> int:
        """Return how many examples a player trains on."""
        if action.effort is not None:
            return action.effort
        return terms.asked.get("examples", player.examples)


def addresses(stream: Stream, size: int) -> list[str]:
    """Return so many random addresses in order."""
    return sorted({"0x" + stream.bytes(20).hex() for _ in range(size)})


def between(stream: Stream, least: int, most: int) -> int:
    """Draw a whole number, both ends included."""
    return least + stream.below(most - least + 1)


def wrong_numbers(truth: int, bounds: Bounds, others: Sequence[int], stream: Stream, count: int) -> list[int]:
    """Return ``count`` reports that are not the truth: off by factors, by one, at the bounds, just past others'.

    Fewer where the bounds have no more.
    """
    found = [truth - 1, truth + 1, bounds.least, bounds.most, *(int(truth * factor) for factor in FACTORS)]
    # What decides is often another's report: go just below and just above it.
    for other in stream.sample(others, min(len(others), count)):
        found += [other - 1, other + 1]
    values = list(dict.fromkeys(value for value in map(bounds.cut, found) if value != truth))[:count]
    span = bounds.most - bounds.least + 1
    while len(values) < min(count, span - 1):
        value = bounds.least + stream.below(span)
        if value != truth and value not in values:
            values.append(value)
    return values
