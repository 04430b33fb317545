"""Cooperative games: what each coalition of players is worth, and what follows of each player.

A coalition of the players 0 … n − 1 is the integer whose bits say who takes part: 5 is players 0 and 2. Worths are
integers, and so everything that follows from them is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction

Game = Callable[[int], int]
"""From a coalition's bits to its worth."""


@dataclass(frozen=True)
class Values:
    """What a game's players are worth.

    Parameters
    ----------
    values
        One a player.
    errors
        Their standard errors, rounded up, where they are estimates from a sample; None where they are not.
    evaluations
        How many coalitions were looked at, the empty one apart.
    """

    values: Sequence[Fraction]
    errors: Sequence[int] | None = None
    evaluations: int = 0


Steps = Generator[Sequence[int], None, Values]
"""A computation that first names each coalition whose worth it is about to look at, many at once where it can."""


def value_of(steps: Steps) -> Values:
    """Return what a computation comes to whose game knows every coalition."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        found: Values = end.value
        return found


def wanted(steps: Steps, known: Container[int]) -> list[int]:
    """Return which coalitions a computation looks at next of those that are not known; none once it ends.

    The empty coalition is always known.
    """
    for named in steps:
        if missing := [mask for mask in dict.fromkeys(named) if mask and mask not in known]:
            return missing
    return []


def everybody(players: int) -> int:
    """Return the coalition of all players."""
    return (1 << players) - 1


def members(mask: int) -> tuple[int, ...]:
    """Return the players of a coalition, in ascending order."""
    return tuple(i for i in range(mask.bit_length()) if mask >> i & 1)
