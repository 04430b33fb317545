"""What players gain by what they choose: whether to take part, what to report, how much to work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from fedledger.aggregator.mechanisms.base import EQUILIBRIUM, INCENTIVE_COMPATIBILITY, INDIVIDUAL_RATIONALITY
from fedledger.platform.incentives.auditor.findings import (
    Observation,
    Property,
    action_document,
    market_document,
    outcome_document,
)
from fedledger.platform.incentives.auditor.settings.base import Action, Units
from fedledger.platform.incentives.auditor.settings.play import FaultyMechanismError, Game

LEAST_UTILITY = -1e-9
MOST_GAIN = 1e-6
ROUNDING = 3.0
"""Units that may seem to be gained at an equilibrium: two payments are rounded, and efforts settle to a unit."""
STANDARD_ERRORS = 2.0
MARKETS = 8
"""An instance of an equilibrium in the mean is so many markets."""
_APART = 1_000_003

Shown = Callable[[Game, int], bool]
"""Whether a game shows something of the player at a place."""


class IndividualRationality(Property):
    """Nobody who tells the truth and works is left with less than nothing."""

    name = INDIVIDUAL_RATIONALITY

    def observe(self, game: Game, misreports: int) -> Observation | None:
        utilities = game.outcome().utilities
        place = min(range(len(utilities)), key=utilities.__getitem__)
        lost = -utilities[place]
        if lost <= -LEAST_UTILITY:
            return Observation((float(lost),))
        played, at = smaller(game, place, lambda tried, at: -tried.outcome().utility(at) > -LEAST_UTILITY)
        example = market_document(played.instance, played.actions)
        example |= {"player": played.instance.players[at].address, "honest": outcome_document(played.outcome(), at)}
        return Observation((float(lost),), example)

    def judge(self, observations: Sequence[Observation]) -> tuple[bool, float, str]:
        least = -max(each.values[0] for each in observations)
        return least >= LEAST_UTILITY, least, "least utility, units"


class IncentiveCompatibility(Property):
    """Nobody gains by another report than the truth."""

    name = INCENTIVE_COMPATIBILITY

    def observe(self, game: Game, misreports: int) -> Observation | None:
        return _best(game, misreports, MOST_GAIN) if game.setting.keeps_to_truth else None

    def judge(self, observations: Sequence[Observation]) -> tuple[bool, float, str]:
        gain = max(each.values[0] for each in observations)
        return gain <= MOST_GAIN, gain, "largest gain, units"


class Equilibrium(Property):
    """Nobody gains by leaving the equilibrium alone."""

    name = EQUILIBRIUM

    def observe(self, game: Game, misreports: int) -> Observation | None:
        setting = game.setting
        if setting.keeps_to_truth:
            return None
        if not setting.in_the_mean:
            return _best(game, misreports, ROUNDING)
        told = [_gains(game, misreports), *(_gains(other, misreports) for other in _others(game))]
        means = tuple(fmean(gains) for gains in zip(*(each.values for each in told), strict=True))
        return Observation(means, told[0].example)

    def judge(self, observations: Sequence[Observation]) -> tuple[bool, float, str]:
        if all(len(each.values) == 1 for each in observations):
            gain = max(each.values[0] for each in observations)
            return gain <= ROUNDING, gain, "largest gain, units"
        # One column a deviation; the players of an instance are not independent, instances are.
        worst, figure = -float("inf"), ""
        for gains in zip(*(each.values for each in observations), strict=True):
            mean = fmean(gains)
            error = stdev(gains) / sqrt(len(gains)) if len(gains) > 1 else 0.0
            if mean - STANDARD_ERRORS * error > worst:
                worst, figure = mean - STANDARD_ERRORS * error, f"{mean:.3g} ± {error:.2g}"
        return worst <= 0, worst, f"largest mean gain less 2 standard errors, units ({figure})"


def _others(game: Game) -> Iterator[Game]:
    """Yield games of further markets: a gain that is large and rare shows in the mean of many alone."""
    instance = game.instance
    for turn in range(1, MARKETS):
        index = instance.index + turn * _APART
        yield Game(game.setting, game.setting.draw(instance.seed, index, len(instance.players)))


def _best(game: Game, misreports: int, most: float) -> Observation | None:
    """Return the most that a player gains by deviating, with the example if that is more than it may be."""
    best: tuple[Units, int, Action] | None = None
    for place, honest in enumerate(game.outcome().utilities):
        for action in game.setting.deviations(game.instance, game.actions, place, misreports):
            gain = game.deviated(place, action).utility(place) - honest
            if best is None or gain > best[0]:
                best = gain, place, action
    if best is None:
        return None
    gain, place, action = best
    if gain <= most:
        return Observation((float(gain),))
    played, at = smaller(game, place, lambda tried, at: _gain(tried, at, action) > most)
    return Observation((float(gain),), _example(played, at, action))


def _gains(game: Game, misreports: int) -> Observation:
    """Return the mean gain of players by each deviation, which are the same in number and order for everybody."""
    columns = list[list[float]]()
    best: tuple[Units, int, Action] | None = None
    for place, honest in enumerate(game.outcome().utilities):
        gains = []
        for action in game.setting.deviations(game.instance, game.actions, place, misreports):
            gain = game.deviated(place, action).utility(place) - honest
            gains.append(float(gain))
            if best is None or gain > best[0]:
                best = gain, place, action
        columns.append(gains)
    example = None if best is None else _example(game, best[1], best[2])
    return Observation(tuple(fmean(gains) for gains in zip(*columns, strict=True)), example)


def _gain(game: Game, place: int, action: Action) -> Units:
    return game.deviated(place, action).utility(place) - game.outcome().utility(place)


def _example(game: Game, place: int, action: Action) -> dict[str, Any]:
    honest, after = game.outcome(), game.deviated(place, action)
    return {
        **market_document(game.instance, game.actions),
        "player": game.instance.players[place].address,
        "honest": outcome_document(honest, place),
        "deviation": action_document(action),
        "deviated": outcome_document(after, place),
    }


def smaller(game: Game, place: int, shown: Shown) -> tuple[Game, int]:
    """Return the game with as few players as still show something, and where its player then is.

    Players are left out one by one; what the others do stays as it is.

    Parameters
    ----------
    game
        A game that shows it.
    place
        Of the player that it is about.
    shown
        Whether a game shows it.
    """
    for out in reversed(range(len(game.instance.players))):
        if out == place:
            continue
        players = [player for at, player in enumerate(game.instance.players) if at != out]
        actions = [action for at, action in enumerate(game.actions) if at != out]
        tried = Game(game.setting, replace(game.instance, players=tuple(players)), actions)
        at = place - (out < place)
        try:
            still = shown(tried, at)
        except FaultyMechanismError:
            continue
        if still:
            game, place = tried, at
    return game, place
