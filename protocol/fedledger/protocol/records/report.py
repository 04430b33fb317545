"""Names in a round's report."""

from __future__ import annotations

BASE, MODEL = "base", "model"


def of_coalition(number: int) -> str:
    """Return the name of what was measured of a coalition, by its number in the report's list, from 1."""
    return f"coalition {number}"
