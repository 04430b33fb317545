"""The simplex method over rationals, with columns that are made as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

Vector = Sequence[Fraction]


class Column(NamedTuple):
    """A variable λ ≥ 0: its place among all, its name, its coefficient in each row, and what it adds."""

    place: int
    name: Hashable
    coefficients: Sequence[int]
    objective: Fraction


class Prices(NamedTuple):
    """A price y of each row, as M · ``large`` + ``small``: a column of coefficients a gains its objective less y·a."""

    large: Vector
    small: Vector


Entering = Callable[[Prices, bool], Column | None]
"""A column that gains at these prices, the first by its place if that is asked; None if none does."""


def maximise(right: Sequence[int], entering: Entering) -> tuple[Vector, Mapping[Hashable, Fraction]]:
    """Maximise Σ objective · λ, so that in each row Σ coefficient · λ is the right side.

    It begins with a variable for each row that costs M, more than anything else (Charnes 1952). After a step that
    gained nothing the entering variable is the first that gains (Bland 1977), so it ends.

    Parameters
    ----------
    right
        The right sides, none below 0.
    entering
        Looks for a column that gains.

    Returns
    -------
    tuple
        The price of each row, and the variables above 0 by name.

    Raises
    ------
    ArithmeticError
        If the objective has no maximum, or if the rows have no solution.
    """
    rows = range(len(right))
    inverse = [[Fraction(int(i == j)) for j in rows] for i in rows]
    levels = [Fraction(side) for side in right]
    basis: list[Column | None] = [None] * len(right)
    is_careful = False
    while (column := entering(prices := _prices(inverse, basis), is_careful)) is not None:
        moves = [_dot(row, column.coefficients) for row in inverse]
        able = [i for i in rows if moves[i] > 0]
        if not able:
            raise ArithmeticError("the objective has no maximum")
        leaving = min(able, key=lambda i: (levels[i] / moves[i], _place(basis[i], i, len(right))))
        is_careful = not levels[leaving]
        _pivot(inverse, levels, moves, leaving)
        basis[leaving] = column
    return prices.small, _above_zero(basis, levels)


def _prices(inverse: Sequence[Vector], basis: Sequence[Column | None]) -> Prices:
    return Prices(
        _combined(inverse, [Fraction(-(column is None)) for column in basis]),
        _combined(inverse, [Fraction() if column is None else column.objective for column in basis]),
    )


def _above_zero(basis: Sequence[Column | None], levels: Vector) -> dict[Hashable, Fraction]:
    found: dict[Hashable, Fraction] = {}
    for column, level in zip(basis, levels, strict=True):
        if column is None and level:
            raise ArithmeticError("the rows have no solution")
        if column is not None and level:
            found[column.name] = level
    return found


def _dot(row: Vector, coefficients: Sequence[int]) -> Fraction:
    return sum((entry * factor for entry, factor in zip(row, coefficients, strict=True) if factor), Fraction())


def _place(column: Column | None, row: int, rows: int) -> int:
    return row - rows if column is None else column.place


def _combined(inverse: Sequence[Vector], factors: Vector) -> list[Fraction]:
    used = [(factor, row) for factor, row in zip(factors, inverse, strict=True) if factor]
    return [sum((factor * row[j] for factor, row in used), Fraction()) for j in range(len(inverse))]


def _pivot(inverse: list[list[Fraction]], levels: list[Fraction], moves: Vector, leaving: int) -> None:
    pivot = moves[leaving]
    inverse[leaving] = row = [entry / pivot for entry in inverse[leaving]]
    levels[leaving] = level = levels[leaving] / pivot
    for i, move in enumerate(moves):
        if move and i != leaving:
            inverse[i] = [entry - move * own if own else entry for entry, own in zip(inverse[i], row, strict=True)]
            levels[i] -= move * level
