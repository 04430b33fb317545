"""How many rows a method needs to keep what it promises, and what is said where there are fewer."""

from __future__ import annotations

from collections.abc import Iterable


class NeedsRows:
    """A method that may keep what it promises only with enough rows."""

    @property
    def least_rows(self) -> int:
        """The fewest rows with which the method keeps what it promises; 0 if it has no such limit."""
        return 0


class NeedsMajority(NeedsRows):
    """A method that keeps what it promises where more rows are honest than its ``f`` may be hostile."""

    f: int

    @property
    def least_rows(self) -> int:
        """2f + 1."""
        return 2 * self.f + 1


Named = tuple[str, NeedsRows]
"""A method by its ``name@version``."""


def most_demanding(methods: Iterable[Named]) -> Named:
    """Return the method that needs the most rows, of equal ones the first."""
    return max(methods, key=lambda named: named[1].least_rows)


def need(named: Named) -> str:
    """Say what a method needs, for a message: "trimmed_mean@2 with f = 3 needs 7 updates that count"."""
    name, method = named
    f = getattr(method, "f", None)
    given = "" if f is None else f" with f = {f:,}"
    return f"{name}{given} needs {method.least_rows:,} updates that count"
