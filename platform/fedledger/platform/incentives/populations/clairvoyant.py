"""The best choice of whoever knows everybody's cost and quality: what a budget could have bought."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def best_value(values: Sequence[int], costs: Sequence[int], budget: int) -> Fraction:
    """Return the most value that a budget buys, if everybody is paid its cost and part of somebody may be bought.

    The relaxed knapsack (Dantzig 1957): by value for cost, and of the last one the part that is left for. No choice of
    whole participants within the budget, each paid its cost at least, is worth more.

    Parameters
    ----------
    values, costs
        Of each participant, at least 0.
    budget
        At least 0.
    """
    left, total = Fraction(budget), Fraction(0)
    priced = sorted(
        ((Fraction(value, cost), cost, value) for value, cost in zip(values, costs, strict=True) if cost), reverse=True
    )
    total += sum(value for value, cost in zip(values, costs, strict=True) if not cost)
    for ratio, cost, value in priced:
        if cost >= left:
            return total + ratio * left
        total, left = total + value, left - cost
    return total
