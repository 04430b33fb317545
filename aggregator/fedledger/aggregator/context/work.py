"""How much a method may compute for one round, so that no parameter of a stranger's task keeps a program busy.

A unit of work is one step over one pair of numbers. The budgets follow from the largest round, of 4,096 updates: it may
take the thousand steps of a geometric median, which are some tens of seconds.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from fedledger.protocol.errors import ConfigError

MAX_PAIR_STEPS = 1 << 34
"""Steps over all pairs of rows in double precision: iterations times the square of the rows."""
MAX_SUMS = 1 << 36
"""Coordinates that are added up one by one."""
MAX_MEMBERS = 1 << 17
"""Members of all coalitions of a round, which its report names."""
MAX_PRODUCTS = 1 << 40
"""Products in matrix products: subsets times their coordinates times the square of the rows."""


@runtime_checkable
class Laborious(Protocol):
    """A method whose work for a round grows with its parameters."""

    def require_work(self, rows: int, dimension: int) -> None:
        """Raise ConfigError if a round of so many updates of so many coordinates is too much work."""
        ...


def require_work(name: str, work: int, most: int) -> None:
    """Raise ConfigError if ``work`` units, of which a method with this name needs so many, are above ``most``."""
    if work > most:
        raise ConfigError(
            f"{name} needs {work:,} steps for a round; the limit is {most:,}.",
            "Lower its parameters, or have a round ask fewer participants.",
        )
