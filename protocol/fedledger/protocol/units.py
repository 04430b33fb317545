"""Amounts and times: the most that a ledger takes, and how they are told, each with its unit."""

from __future__ import annotations

from datetime import UTC, datetime

GWEI = 10**9
"""Wei of a gwei; of a token, its smallest units."""
MOST_GWEI = (2**96 - 1) // GWEI
"""The highest amount, in gwei, that a ledger holds in its 96 bits."""
MOST_SECONDS = 2**32 - 1
"""The longest delay that a ledger holds in its 32 bits."""
YEAR = 365 * 86_400
"""Seconds of the longest period of a task or a dispute."""


def in_gwei(wei: int) -> str:
    """Return an amount in gwei, with its unit and as many decimals as it takes."""
    whole, rest = divmod(abs(wei), GWEI)
    decimals = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{'-' if wei < 0 else ''}{whole:,}{decimals} gwei"


def shown_time(seconds: int) -> str:
    """Return a chain's time in UTC; one that no calendar reaches as seconds."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ").replace("+00:00", " UTC")
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"
