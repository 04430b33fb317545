"""Contribution scores that follow from a game: a round's updates are its players, and they win held-out worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import Coalition, Estimate, worth_of
from fedledger.aggregator.games.game import Game, Steps, Values, members, value_of, wanted
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.methods.parameters import Checked

MOST_EXACT = 10
"""Players whose coalitions are all measured, which are 1,023 then."""
MOST_SAMPLED = 100
"""Players whose values are estimated."""
PARTS = 1000
"""Scores are in thousandths of a millionth of what is measured."""


class GameValue(Checked, ABC):
    """A contribution score that follows from what coalitions of a round's updates are worth.

    The worth of a coalition is the margin or else the negative loss of its model, in millionths, and nobody's is that
    of the base. Whoever's value is at most ``context.doubt`` may add nothing on another machine, so scores are of what
    is beyond. In a round in which more updates count than a method can value, nothing is measured and all earn the
    same, so that nobody stops a task by taking part; a task that would ask so many is not posted.
    """

    @property
    @abstractmethod
    def most_players(self) -> int:
        """How many updates it can value."""

    @abstractmethod
    def steps(self, context: StageContext, players: Coalition, value: Game) -> Steps:
        """Compute the values of a round's players.

        Parameters
        ----------
        context
            What is known of the round.
        players
            The places of the updates that count; the first is player 0.
        value
            The worth of each coalition, in millionths.
        """

    @abstractmethod
    def most_coalitions(self, rows: int) -> int:
        """Return how many coalitions it asks for at most in a round in which so many updates count."""

    def require_work(self, rows: int, dimension: int) -> None:
        """Raise ConfigError if so many updates are more than it can value."""
        if rows > self.most_players:
            raise ConfigError(
                f"The contribution score values {self.most_players:,} updates a round at most, and {rows:,} may count.",
                "Have a round ask fewer participants, or choose a score that estimates values from a sample.",
            )

    def coalitions(self, context: StageContext, weights: Sequence[int]) -> Sequence[Coalition]:
        """Return the coalitions that are looked at next."""
        players = counted(weights)
        if not self._is_valued(players):
            return []
        known = _worths(context, players)
        asked = wanted(self.steps(context, players, known.__getitem__), known)
        return [tuple(players[player] for player in members(mask)) for mask in asked]

    def estimates(self, context: StageContext, weights: Sequence[int]) -> Sequence[Estimate | None]:
        """Return the values, in millionths; those of a round that is too large are 0."""
        players, found = counted(weights), self.values(context, weights)
        told: list[Estimate | None] = [None] * len(weights)
        errors: Sequence[int | None] = found.errors or [None] * len(players)
        for place, value, error in zip(players, found.values, errors, strict=True):
            told[place] = Estimate(round(value), error)
        return told

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        """Return the scores."""
        players = counted(weights)
        if not self._is_valued(players):
            return [1 if weight else 0 for weight in weights]
        return self.scores(context, weights, self.values(context, weights).values)

    def scores(self, context: StageContext, weights: Sequence[int], values: Sequence[Fraction]) -> list[int]:
        """Return the scores that follow from the players' values."""
        scores = [0] * len(weights)
        for place, value in zip(counted(weights), values, strict=True):
            scores[place] = earned(value, context.doubt)
        return scores

    def values(self, context: StageContext, weights: Sequence[int]) -> Values:
        """Return the values of the updates that count, in millionths; 0 in a round that is too large."""
        players = counted(weights)
        if not self._is_valued(players):
            return Values([Fraction()] * len(players))
        worths = _worths(context, players)
        return value_of(self.steps(context, players, lambda mask: _worth(worths, mask)))

    def _is_valued(self, players: Coalition) -> bool:
        return 0 < len(players) <= self.most_players


class ExactValue(GameValue):
    """A score that looks at all coalitions."""

    @property
    def most_players(self) -> int:
        """As many as have few enough coalitions."""
        return MOST_EXACT

    def most_coalitions(self, rows: int) -> int:
        """All of them."""
        return (1 << rows) - 1 if rows <= self.most_players else 0


class SampledValue(GameValue):
    """A score that looks at some coalitions, of which it has the largest number as a parameter."""

    evaluations: int

    @property
    def most_players(self) -> int:
        """Fewer than the coalitions that may be measured, so that everybody is in one alone, and in the whole."""
        return min(MOST_SAMPLED, self.evaluations - 1)

    def most_coalitions(self, rows: int) -> int:
        """As many as the parameter says."""
        return self.evaluations


def counted(weights: Sequence[int]) -> Coalition:
    """Return the places of the updates that count."""
    return tuple(i for i, weight in enumerate(weights) if weight)


def earned(value: Fraction | int, doubt: int) -> int:
    """Return the score of a value in millionths, of which so much may be none."""
    return max(0, round((value - doubt) * PARTS))


def _worths(context: StageContext, players: Coalition) -> dict[int, int]:
    """Return the worth of each coalition that was measured, by its players' bits, and of nobody."""
    bits = {place: 1 << player for player, place in enumerate(players)}
    return {sum(bits[place] for place in places): worth_of(context, places) for places in ((), *context.coalitions)}


def _worth(worths: Mapping[int, int], mask: int) -> int:
    if mask not in worths:
        raise RoundError("This round has no measurement of a coalition.", "Evaluate it as a round of a task.")
    return worths[mask]
