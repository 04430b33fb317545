"""How examples fit a task's data schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.protocol.errors import ConfigError

TOLD = 3
"""Further findings that a message tells."""
MOST_TOLD = 20
"""Misfits that one error tells."""

MOST_NUMBERS = 2**29
"""Numbers that a schema may make of one's own data in all, 2 GiB as float32: it can make very many of few cells."""


def require_few_numbers(examples: int, width: int) -> None:
    """Raise ConfigError if examples would have more numbers than there may be, before any of them is made.

    Parameters
    ----------
    examples, width
        How many examples, and how many numbers each has.
    """
    if examples * width > MOST_NUMBERS:
        raise ConfigError(
            f"{examples:,} examples of {width:,} numbers each are {examples * width:,} numbers, and {MOST_NUMBERS:,} "
            "are the limit.",
            "Give fewer examples, or do not take part in a task that makes so much of each.",
        )


@dataclass(frozen=True)
class Misfit:
    """Something in the data that does not fit, or looks as if it did not.

    Parameters
    ----------
    column
        Where, if it is a column's.
    problem, remedy
        A sentence each.
    is_serious
        Whether examples cannot be made; else it only looks wrong.
    """

    column: str
    problem: str
    remedy: str
    is_serious: bool = True

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".strip()


@dataclass(frozen=True)
class Fit:
    """What became of the data.

    Parameters
    ----------
    examples
        The examples; None if something serious does not fit.
    count
        How many there are.
    misfits
        What does not fit.
    """

    examples: Dataset | None
    count: int
    misfits: tuple[Misfit, ...] = ()

    @property
    def serious(self) -> list[Misfit]:
        """What keeps examples from being made."""
        return [misfit for misfit in self.misfits if misfit.is_serious]

    def required(self) -> Dataset:
        """Return the examples; raises ConfigError, which tells what does not fit, if there are none."""
        if self.examples is not None:
            return self.examples
        first, *others = self.serious
        told = " ".join(other.problem for other in others[:TOLD])
        more = f" Besides: {told}" if told else ""
        rest = f" There are {len(others) - TOLD} more such findings." if len(others) > TOLD else ""
        raise ConfigError(first.problem, f"{first.remedy}{more}{rest}".strip())


def fit_of(examples: Dataset | None, count: int, least: int, misfits: Sequence[Misfit]) -> Fit:
    """Return how examples fit, once what holds for all kinds of data was looked at.

    Parameters
    ----------
    examples, count
        The examples, if they could be made, and how many there are.
    least
        How many the task asks for.
    misfits
        What does not fit so far.
    """
    found = [*misfits]
    if count < least:
        found.append(
            Misfit(
                "", f"There are {count:,} examples, and the task asks for {least:,}.", "Add some, or do not take part."
            )
        )
    if examples is not None and examples.classes is not None and len(examples):
        present = np.unique(examples.targets)
        if len(present) == 1:
            found.append(
                Misfit(
                    "",
                    f"All {count:,} examples are of one class, number {present[0]} of {examples.classes}.",
                    "Updates that know one class alone are easily taken for attacks; look whether rows are left out.",
                    is_serious=False,
                )
            )
    serious = any(misfit.is_serious for misfit in found)
    return Fit(None if serious else examples, count, tuple(found))
