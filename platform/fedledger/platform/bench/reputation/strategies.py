"""What participants do who look at their own reputation: attack, wait, or come back under a new name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Seen:
    """What somebody knows of its standing before it trains for a round; reputations in ppm.

    Parameters
    ----------
    index, rounds
        The round, and how many there are.
    place
        Which of those with the same strategy it is, from 0.
    reputation
        Its own.
    newcomer
        That of a name of which nothing is known.
    gate
        Below it an update weighs and earns nothing in this round.
    highest
        The highest of all whom the round asks.
    attacked
        Whether it attacked in the round before.
    """

    index: int
    rounds: int
    place: int
    reputation: int
    newcomer: int
    gate: int
    highest: int
    attacked: bool


class Strategy(Protocol):
    """Decides for one participant, before each round."""

    def attacks(self, seen: Seen) -> bool:
        """Return whether it attacks in the round."""
        ...

    def leaves(self, seen: Seen) -> bool:
        """Return whether it takes a new name before the round."""
        ...


class Stays:
    """Keeps its name."""

    def leaves(self, seen: Seen) -> bool:
        """Return False."""
        return False


@dataclass(frozen=True)
class Honest(Stays):
    """Never attacks."""

    def attacks(self, seen: Seen) -> bool:
        """Return False."""
        return False


@dataclass(frozen=True)
class Always(Stays):
    """Attacks in each round."""

    def attacks(self, seen: Seen) -> bool:
        """Return True."""
        return True


@dataclass(frozen=True)
class Whitewasher(Always):
    """Attacks in each round, and takes a new name as soon as its own is worth less than one of which nothing is known.

    (Friedman and Resnick 2001, https://doi.org/10.1111/j.1430-9134.2001.00173.x.)
    """

    def leaves(self, seen: Seen) -> bool:
        """Return whether a new name is worth more."""
        return seen.reputation < seen.newcomer


@dataclass(frozen=True)
class OnOff(Stays):
    """Attacks until it weighs nothing, behaves until it is trusted, and attacks again (Sun, Han and Liu 2008).

    Parameters
    ----------
    patience
        How far it waits, from the gate (0) to the highest reputation of the round (1); a number for each place, as
        some of them are in more of a hurry than others.
    """

    patience: tuple[float, ...] = (0.0, 0.5, 0.95)

    def attacks(self, seen: Seen) -> bool:
        """Return whether it is trusted by its own measure, or still weighs something."""
        if seen.attacked:
            return seen.reputation >= seen.gate
        waited = self.patience[seen.place % len(self.patience)]
        least = max(seen.gate, seen.newcomer)
        return seen.reputation >= least + waited * max(0, seen.highest - least)


@dataclass(frozen=True)
class Turning(Stays):
    """Is honest for a share of the rounds, and attacks in all that follow.

    Parameters
    ----------
    after
        The share; of 75 rounds, two thirds let it attack from round 50 on.
    """

    after: float = 2 / 3

    def attacks(self, seen: Seen) -> bool:
        """Return whether the time has come."""
        return seen.index >= turning_round(self.after, seen.rounds)


def turning_round(share: float, rounds: int) -> int:
    """Return the round that begins when a share of the rounds is over, at least the first."""
    return max(1, round(share * rounds))
