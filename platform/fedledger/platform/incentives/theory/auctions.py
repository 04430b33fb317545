"""Two truthful auctions in rational numbers, with nothing rounded: references for mechanisms that pay whole units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import whole

Number = int | float | Fraction
"""An exact number: a float stands for the binary fraction that it is."""


@dataclass(frozen=True)
class Result:
    """Places of the winners, ascending, and what each bidder is paid; 0 for those that lose."""

    winners: tuple[int, ...]
    pays: tuple[Fraction, ...]

    def utility(self, place: int, cost: Number) -> Fraction:
        """Return what a bidder has after its cost, if it wins."""
        return self.pays[place] - Fraction(cost) if place in self.winners else Fraction(0)


def vcg_lowest(bids: Sequence[Number], winners: int) -> Result:
    """Return who wins if the K lowest bids win, each paid the (K + 1)-th.

    It is the mechanism of Vickrey (1961), Clarke (1971) and Groves (1973) for equal tasks: truthful, individually
    rational, and without a limit to what it pays. Equal bids win in their order.

    Parameters
    ----------
    bids
        What each asks for.
    winners
        K, fewer than the bids.

    Raises
    ------
    ConfigError
        If a bid is negative or no number, or not fewer win than bid.
    """
    asked = [_exact("bid", bid) for bid in bids]
    if len(asked) < 2:
        raise ConfigError("Fewer than two bid.", "Give at least two bids.")
    count = whole("winners", winners, 1, len(asked) - 1)
    order = sorted(range(len(asked)), key=lambda place: (asked[place], place))
    chosen = frozenset(order[:count])
    price = asked[order[count]]
    return Result(tuple(sorted(chosen)), tuple(price if k in chosen else Fraction(0) for k in range(len(asked))))


def proportional_share(bids: Sequence[Number], values: Sequence[Number], budget: Number) -> Result:
    """Return who wins within a budget by proportional share.

    In order of b_i / v_i, a bid is accepted while b_i ≤ v_i·B / Σ_{j≤i} v_j. Winners are paid
    v_i·min(B / Σ_W v, b_{k+1} / v_{k+1}), where k + 1 is the first that is not accepted. Singer, Budget Feasible
    Mechanisms, FOCS 2010, for additive values; RRAFL (Zhang, Wu and Pan, Incentive Mechanism for Horizontal Federated
    Learning Based on Reputation and Reverse Auction, WWW 2021) takes reputations for values. Truthful, individually
    rational, and never above the budget. Equal ratios come in their order.

    Parameters
    ----------
    bids
        What each asks for.
    values
        What each is worth to the buyer, above 0.
    budget
        B, above 0.

    Raises
    ------
    ConfigError
        If numbers are out of bounds, or there are not as many values as bids.
    """
    asked, worth = [_exact("bid", bid) for bid in bids], [_exact("value", value) for value in values]
    limit = _exact("budget", budget)
    if len(asked) != len(worth):
        raise ConfigError("There are not as many values as bids.", "Give one for each.")
    if limit == 0 or 0 in worth:
        raise ConfigError("A value or the budget is 0.", "Give numbers above 0.")
    order = sorted(range(len(asked)), key=lambda place: (asked[place] / worth[place], place))
    total, accepted = Fraction(0), list[int]()
    price: Fraction | None = None
    for place in order:
        if asked[place] * (total + worth[place]) > worth[place] * limit:
            price = asked[place] / worth[place]
            break
        total += worth[place]
        accepted.append(place)
    if not accepted:
        return Result((), (Fraction(0),) * len(asked))
    rate = limit / total if price is None else min(limit / total, price)
    chosen = frozenset(accepted)
    return Result(
        tuple(sorted(chosen)), tuple(worth[k] * rate if k in chosen else Fraction(0) for k in range(len(asked)))
    )


def _exact(name: str, value: Number) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, Number) or not isfinite(value) or value < 0:
        raise ConfigError(f"A {name} is {value!r}.", "Give a finite number of at least 0.")
    return Fraction(value)
