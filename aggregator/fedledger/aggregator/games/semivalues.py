"""Values of all coalitions of a game: Shapley's and Banzhaf's, which weigh a player's gains by coalitions' sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import factorial

from fedledger.aggregator.games.game import Game, Steps, Values

SizeWeight = Callable[[int], Fraction]
"""From the number of the others in a coalition to what a player's gain beside them counts."""


def shapley(players: int, value: Game) -> Steps:
    """Compute φ_i = Σ_{S ∌ i} |S|! (n − |S| − 1)! / n! · (v(S ∪ i) − v(S)) (Shapley 1953).

    Parameters
    ----------
    players
        n.
    value
        The game.
    """
    return _semivalue(
        players, value, lambda size: Fraction(factorial(size) * factorial(players - size - 1), factorial(players))
    )


def banzhaf(players: int, value: Game) -> Steps:
    """Compute β_i = 2^(1 − n) Σ_{S ∌ i} (v(S ∪ i) − v(S)) (Banzhaf 1965).

    Parameters
    ----------
    players
        n.
    value
        The game.
    """
    return _semivalue(players, value, lambda size: Fraction(1, 1 << (players - 1)))


def _semivalue(players: int, value: Game, weight: SizeWeight) -> Steps:
    yield range(1, 1 << players)
    worths = [value(mask) for mask in range(1 << players)]
    values = [
        sum((weight(size) * gain for size, gain in enumerate(_gains(players, worths, i))), Fraction())
        for i in range(players)
    ]
    return Values(values, evaluations=(1 << players) - 1)


def _gains(players: int, worths: Sequence[int], i: int) -> list[int]:
    """Return what a player adds to the coalitions of others of each size, added up."""
    bit, totals = 1 << i, [0] * players
    for mask, worth in enumerate(worths):
        if not mask & bit:
            totals[mask.bit_count()] += worths[mask | bit] - worth
    return totals
