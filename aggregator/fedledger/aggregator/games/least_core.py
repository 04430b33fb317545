"""The least core: what everybody gets where the coalition that has most reason to complain has least."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import lcm

from fedledger.aggregator.games.game import Game, Steps, Values, everybody
from fedledger.aggregator.games.simplex import Column, Prices, maximise


def least_core(players: int, value: Game) -> Steps:
    """Compute the nucleolus, a point of the least core (Schmeidler 1969; Maschler, Peleg and Shapley 1979).

    The least core is min e such that Σ_i x_i = v(N) and e + Σ_{i ∈ S} x_i ≥ v(S) for all other coalitions S. It has
    many points, as a rule. Of these the nucleolus is the one that next makes the second largest complaint v(S) − x(S)
    as small as possible, and so on: there is one, and players who are worth the same get the same. Coalitions whose
    complaint is settled are those whose constraint has a multiplier above 0, and what follows from them.

    Parameters
    ----------
    players
        n.
    value
        The game.
    """
    yield range(1, 1 << players)
    worths = tuple(value(mask) - value(0) for mask in range(1 << players))
    return Values(_nucleolus(players, worths), evaluations=(1 << players) - 1)


@lru_cache(maxsize=4)
def _nucleolus(players: int, worths: Sequence[int]) -> Sequence[Fraction]:
    """Return the shares; a round asks for them twice, and they take longer than anything else of a game."""
    settled = {everybody(players): Fraction(worths[-1])}
    shares: Sequence[Fraction] = [settled[everybody(players)]]
    while free := _free(players, list(settled)):
        prices, tight = maximise([0] * players + [1], _Complaints(players, worths, settled, free).entering)
        *shares, excess = prices
        settled |= {mask: worths[mask] - excess for mask in tight if isinstance(mask, int)}
    return tuple(shares)


_NOTHING = Fraction(), Fraction()


class _Complaints:
    """The dual of a step: a variable for each complaint that is not settled, two for each that is."""

    def __init__(self, players: int, worths: Sequence[int], settled: dict[int, Fraction], free: Sequence[int]) -> None:
        self._players, self._worths = players, worths
        self._free = free
        self._settled = settled

    def entering(self, prices: Prices, first: bool) -> Column | None:
        """Return the column that gains most, or the first that gains."""
        large, small = _Scaled(prices.large), _Scaled(prices.small)
        best, most = None, _NOTHING
        for mask, paid in self._settled.items():
            gain = Fraction(-large.sums[mask], large.unit), paid - Fraction(small.sums[mask], small.unit)
            sign = 1 if gain > _NOTHING else -1
            gain = sign * gain[0], sign * gain[1]
            if gain > most:
                best, most = self._balancing(mask, paid, sign), gain
                if first:
                    return best
        # Whole numbers are compared faster.
        highest: tuple[Fraction | int, Fraction | int] = most[0] * large.unit, most[1] * small.unit
        chosen = None
        for mask in self._free:
            told: tuple[Fraction | int, Fraction | int] = (
                -large.sums[mask] - large.last,
                self._worths[mask] * small.unit - small.sums[mask] - small.last,
            )
            if told > highest:
                chosen, highest = mask, told
                if first:
                    break
        return best if chosen is None else self._complaint(chosen)

    def _complaint(self, mask: int) -> Column:
        return Column(mask, mask, [*self._bits(mask), 1], Fraction(self._worths[mask]))

    def _balancing(self, mask: int, paid: Fraction, sign: int) -> Column:
        # Settled ones come before all others, each with both its signs.
        place = 2 * mask + (sign > 0) - (4 << self._players)
        return Column(place, (mask, sign), [*(sign * bit for bit in self._bits(mask)), 0], sign * paid)

    def _bits(self, mask: int) -> list[int]:
        return [mask >> i & 1 for i in range(self._players)]


class _Scaled:
    """Prices as whole numbers of a common unit, and their sums over each coalition."""

    def __init__(self, prices: Sequence[Fraction]) -> None:
        self.unit = lcm(*(price.denominator for price in prices))
        *whole, self.last = (price.numerator * (self.unit // price.denominator) for price in prices)
        self.sums = [0]
        for price in whole:
            self.sums += [total + price for total in self.sums]


def _free(players: int, settled: Sequence[int]) -> list[int]:
    """Return the coalitions whose share does not follow from those of others: not orthogonal to what is left open."""
    directions = _open_directions(players, settled)
    free = []
    sums = [_Scaled([*direction, Fraction(1)]).sums for direction in directions]
    for mask in range(1, everybody(players)):
        if any(total[mask] for total in sums):
            free.append(mask)
    return free


def _open_directions(players: int, settled: Sequence[int]) -> list[list[Fraction]]:
    """Return a basis of the changes of shares that leave those of some coalitions as they are."""
    reduced = _reduced(players, settled)
    directions = []
    for i in range(players):
        if i not in reduced:
            direction = [Fraction(int(j == i)) for j in range(players)]
            for lead, row in reduced.items():
                direction[lead] = -row[i]
            directions.append(direction)
    return directions


def _reduced(players: int, settled: Sequence[int]) -> dict[int, list[Fraction]]:
    """Return the reduced rows that coalitions' bits span, by the place of each one's leading 1 (Gauss and Jordan)."""
    reduced: dict[int, list[Fraction]] = {}
    for mask in settled:
        row = [Fraction(mask >> i & 1) for i in range(players)]
        for lead, other in reduced.items():
            row = _less(row, row[lead], other)
        lead = next((i for i, entry in enumerate(row) if entry), -1)
        if lead >= 0:
            row = [entry / row[lead] for entry in row]
            reduced = {at: _less(other, other[lead], row) for at, other in reduced.items()}
            reduced[lead] = row
    return reduced


def _less(row: Sequence[Fraction], factor: Fraction, other: Sequence[Fraction]) -> list[Fraction]:
    return [entry - factor * own for entry, own in zip(row, other, strict=True)]
