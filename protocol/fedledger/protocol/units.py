"""Amounts and times as text, each with its unit."""

from __future__ import annotations

from datetime import UTC, datetime

GWEI = 10**9
"""Wei of a gwei; of a token, its smallest units."""


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
