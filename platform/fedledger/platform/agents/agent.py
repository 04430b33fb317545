"""An agent: what it knows of itself, whether it comes to a round, and what it reports."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedledger.platform.agents.config import COST, PRICE, AgentConfig
from fedledger.protocol.arithmetic.random_streams import Stream, generator, stream
from fedledger.protocol.records.reputation import PPM, ppm
from fedledger.protocol.records.spec import ReportedNumber
from fedledger.protocol.schedules.devices import MICRO, Trip

MEMORY = 4
"""What is expected is the mean of what was paid, in which the newest round counts one part in so many."""
UNKNOWN = -1


class Experience(NamedTuple):
    """What an agent has seen of a task.

    Parameters
    ----------
    expected
        What it expects a round to pay, in units; UNKNOWN before its first one.
    away
        Rounds in a row from which it stayed away for money.
    rounds, pay, cost
        Rounds in which it worked, what they paid, and what they cost it, in units.
    """

    expected: int = UNKNOWN
    away: int = 0
    rounds: int = 0
    pay: int = 0
    cost: int = 0

    @property
    def utility(self) -> int:
        """What work has left it, in units: pay less cost."""
        return self.pay - self.cost

    def worked(self, paid: int, cost: int) -> Experience:
        """Return the experience after a round in which it worked."""
        known = self.expected != UNKNOWN
        expected = ((MEMORY - 1) * self.expected + paid) // MEMORY if known else paid
        return Experience(expected, 0, self.rounds + 1, self.pay + paid, self.cost + cost)


NEW = Experience()


class Agent:
    """One participant that decides for itself.

    Parameters
    ----------
    group
        What it is like.
    seed
        The experiment's; with the number, all that is drawn follows from it.
    number
        Which participant it is.
    trip
        What a round takes its device, if the experiment has devices.
    """

    def __init__(self, group: AgentConfig, seed: int, number: int, trip: Trip | None = None) -> None:
        self.group = group
        self._key, self._number = key_of(seed), number
        self._walks: dict[str, list[int]] = {}
        self._there: list[bool] = []
        trip = trip or Trip(0, 0, 0, 0, 0, 0)
        by_device = (trip.energy_uj, group.units_per_joule), (trip.duration_us, group.units_per_second)
        self._device_cost = sum(amount * ppm(price) // (PPM * MICRO) for amount, price in by_device)

    def truth(self, name: str, index: int) -> int | None:
        """Return a private number in a round; None if it has none of that name."""
        bounds = self.group.private.get(name)
        if bounds is None:
            return None
        least, most = bounds
        walk = self._walks.setdefault(name, [least + self._draws(name).below(most - least + 1)])
        drift = ppm(self.group.drift)
        while drift and len(walk) < index:
            step = self._draws(f"{name} drifts", len(walk)).below(2 * drift + 1) - drift
            walk.append(min(most, max(least, walk[-1] + walk[-1] * step // PPM)))
        return walk[min(index, len(walk)) - 1]

    def cost(self, index: int) -> int:
        """Return what work in a round costs it, in units, rounded down."""
        full = self.truth(COST, index) or 0
        return full * ppm(self.group.effort) // PPM + self._device_cost

    def is_there(self, index: int) -> bool:
        """Return whether it can take part in a round: between its first and its last, and not away."""
        group = self.group
        if index < group.first or (group.last is not None and index > group.last):
            return False
        while group.leaves and len(self._there) < index:
            chance = group.leaves if not self._there or self._there[-1] else 1 - group.returns
            away = self._draws("away", len(self._there)).below(PPM) < ppm(chance)
            self._there.append(not away)
        return self._there[index - 1] if self._there else True

    def comes(self, index: int, price: int, experience: Experience) -> bool:
        """Return whether it works in a round that asks it.

        Parameters
        ----------
        index
            The round.
        price
            What it was promised, in units; 0: nothing.
        experience
            What it has seen so far.
        """
        if not self.is_there(index):
            return False
        cost = self.cost(index)
        if not self.group.rational or (price or experience.expected) >= cost:
            return True
        return not price and (experience.expected == UNKNOWN or experience.away >= self.group.tries_again)

    def report(self, numbers: Sequence[ReportedNumber], index: int) -> dict[str, int] | None:
        """Return what it reports in a bidding round; None if it is away, or does not know all that is asked."""
        if not self.is_there(index):
            return None
        told = {number.name: self._told(number, index) for number in numbers}
        known = {name: value for name, value in told.items() if value is not None}
        return known if known and len(known) == len(told) else None

    def _told(self, number: ReportedNumber, index: int) -> int | None:
        name = number.name
        if name in self.group.claims:
            least, most = self.group.claims[name]
            value = least + self._draws(f"{name} claimed", index).below(most - least + 1)
        else:
            # Who is asked for a price has one in mind as soon as it knows its cost.
            is_cost = name == COST or (name == PRICE and PRICE not in self.group.private)
            true = self.cost(index) if is_cost else self.truth(name, index)
            if true is None:
                return None
            value = true * ppm(self.group.tells.get(name, 1.0)) // PPM
        return min(number.most, max(number.least, value))

    def _draws(self, purpose: str, index: int = 0) -> Stream:
        return stream(self._key, purpose, index, str(self._number))


def key_of(seed: int) -> bytes:
    """Return what all draws of an experiment's agents follow from, 32 bytes; the task's spec is no part of it."""
    return hashlib.sha256(f"agents of {seed}".encode()).digest()


def groups_of(groups: Sequence[AgentConfig], participants: int, seed: int) -> list[AgentConfig]:
    """Return each participant's group, by number, nothing if there are no groups.

    Who is in which is drawn; who is in none costs nothing and always comes.
    """
    if not groups:
        return []
    rest = participants - sum(group.count for group in groups)
    places = [group for group in groups for _ in range(group.count)]
    places += [AgentConfig(name="others", count=1)] * rest
    return stream(key_of(seed), "groups").sample(places, participants)


def trained_on(groups: Sequence[AgentConfig], sizes: Sequence[int], seed: int) -> NDArray[np.bool_]:
    """Return which examples agents train on, by their effort.

    Parameters
    ----------
    groups
        Each participant's.
    sizes
        How many examples each has.
    seed
        The experiment's.

    Returns
    -------
    NDArray
        bool[n] over the examples of all, participant after participant. Whoever has some trains on at least one.
    """
    parts = []
    for number, (group, size) in enumerate(zip(groups, sizes, strict=True)):
        kept = np.zeros(size, np.bool_)
        count = -(-size * ppm(group.effort) // PPM)
        kept[generator(key_of(seed), "effort", 0, str(number)).permutation(size)[:count]] = True
        parts.append(kept)
    return np.concatenate(parts)
