"""Shapley values from a sample of orders: each player is worth what it adds, on average, to those before it.

Several orders are walked side by side, so that what they look at is known many coalitions at a time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, permutations
from math import factorial, isqrt
from typing import NamedTuple

from fedledger.aggregator.games.game import Game, Steps, Values, everybody
from fedledger.protocol.arithmetic.random_streams import Stream

Order = Sequence[int]

FEW = 5040
"""Where there are no more arrangements, none of them is drawn twice."""


@dataclass(frozen=True)
class Walk:
    """How orders are walked; shares are of |v(N) − v(∅)|, what all players add.

    Parameters
    ----------
    within
        An order is not followed any further once what is left to add is below this share: the rest adds nothing.
    between
        Nobody adds anything where all players together add less than this.
    settled
        The walk ends once every standard error is at most this share; never before its end if it is 0.
    evaluations
        How many coalitions may be looked at; what the orders of a batch would need beyond them is not looked at.
    """

    within: Fraction = Fraction()
    between: Fraction = Fraction()
    settled: Fraction = Fraction()
    evaluations: int = 1 << 62


def walked(players: int, value: Game, batches: Iterable[Sequence[Order]], walk: Walk) -> Steps:
    """Estimate Shapley values from batches of orders.

    A batch for which too few evaluations are left does not count, except the first, whose orders end there as if what
    is left to add were nothing.

    Parameters
    ----------
    players
        n.
    value
        The game.
    batches
        Orders of all players; each batch is walked side by side, and no order comes twice where there are few.
    walk
        How.
    """
    whole = everybody(players)
    yield [whole]
    gain = abs(value(whole) - value(0))
    sample = _Sample(players)
    if gain < walk.between:
        return Values([Fraction()] * players, [0] * players, 1)
    # Rounded up.
    least, seen = -int(-walk.within * gain // 1), {0, whole}
    for batch in batches:
        rows = yield from _added(value, batch, least, seen, walk.evaluations)
        if rows.is_whole or not sample.count:
            sample.add(rows.added)
        if not rows.is_whole or (walk.settled and sample.is_within(walk.settled * gain)):
            break
    return Values(sample.means, sample.errors, len(seen) - 1)


class _Rows(NamedTuple):
    """What each player added in each order, and whether all could be looked at."""

    added: list[list[int]]
    is_whole: bool = True


def _added(
    value: Game, orders: Sequence[Order], least: int, seen: set[int], evaluations: int
) -> Generator[Sequence[int], None, _Rows]:
    """Walk orders side by side, each until less than ``least`` is left to add; ``seen`` becomes what is looked at."""
    players = len(orders[0])
    left, added = value(everybody(players)), [[0] * players for _ in orders]
    reached = {j: (0, value(0)) for j in range(len(orders))}
    for place in range(players):
        reached = {j: at for j, at in reached.items() if abs(left - at[1]) >= least}
        following = [(j, before, at | 1 << orders[j][place]) for j, (at, before) in reached.items()]
        new = [mask for mask in dict.fromkeys(mask for _, _, mask in following) if mask not in seen]
        if len(seen) - 1 + len(new) > evaluations:
            return _Rows(added, is_whole=False)
        if new:
            yield new
            seen.update(new)
        for j, before, mask in following:
            worth = value(mask)
            added[j][orders[j][place]] = worth - before
            reached[j] = mask, worth
    return _Rows(added)


def random_orders(players: int, count: int, stream: Stream) -> Iterator[list[int]]:
    """Yield random orders of all players, at most all of them where they are few, and none of these twice."""
    for places in _arrangements(players, count, stream):
        yield list(places)


def cycles(players: int, count: int, stream: Stream) -> Iterator[list[list[int]]]:
    """Yield random orders with all their rotations, forth and back: all players lead and come at each place as often.

    What comes before a place in an order comes behind it in another one, and both orders look at the same n (n − 1)
    coalitions of neighbours. All cycles together, where there are few, are all orders.
    """
    for rest in _arrangements(players - 1, count, stream, is_one_way=True):
        order = [0, *(1 + place for place in rest)]
        rotated = [order[start:] + order[:start] for start in range(players)]
        # Of one or two players these are all orders.
        yield rotated if players < 3 else rotated + [turned[::-1] for turned in rotated]


def batches(orders: Iterable[Order], size: int) -> Iterator[list[Order]]:
    """Yield orders so many at a time, the last ones perhaps fewer."""
    left = iter(orders)
    while batch := list(islice(left, size)):
        yield batch


def _arrangements(length: int, count: int, stream: Stream, is_one_way: bool = False) -> Iterator[Sequence[int]]:
    """Yield random arrangements; of one and the same read from behind only one, if that is asked."""
    if factorial(length) <= FEW:
        every = [found for found in permutations(range(length)) if not is_one_way or found[:1] <= found[-1:]]
        yield from stream.sample(every, min(count, len(every)))
        return
    for _ in range(count):
        drawn = stream.sample(range(length), length)
        yield drawn[::-1] if is_one_way and drawn[0] > drawn[-1] else drawn


class _Sample:
    """What players added in orders that were walked."""

    def __init__(self, players: int) -> None:
        self.count = 0
        self._orders = factorial(players)
        self._sums, self._squares = [0] * players, [0] * players

    def add(self, rows: Sequence[Sequence[int]]) -> None:
        """Add what each player added in each of some orders."""
        self.count += len(rows)
        for row in rows:
            for i, added in enumerate(row):
                self._sums[i] += added
                self._squares[i] += added * added

    @property
    def means(self) -> list[Fraction]:
        return [Fraction(total, max(1, self.count)) for total in self._sums]

    @property
    def errors(self) -> list[int] | None:
        """√(s² / m · (1 − m / n!)) of m orders drawn without replacement, rounded up; None of a single one."""
        m = self.count
        if m == self._orders:
            return [0] * len(self._sums)
        if m < 2:
            return None
        spread = (m * square - total * total for total, square in zip(self._sums, self._squares, strict=True))
        factor = Fraction(max(0, self._orders - m), m * m * (m - 1) * self._orders)
        return [_root(deviation * factor) for deviation in spread]

    def is_within(self, most: Fraction) -> bool:
        """Return whether no standard error is above ``most``."""
        errors = self.errors
        return errors is not None and max(errors) <= most


def _root(value: Fraction) -> int:
    """Return the square root, rounded up."""
    whole = -(-value.numerator // value.denominator)
    root = isqrt(whole)
    return root + (root * root < whole)
