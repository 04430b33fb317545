"""What a chain says when it refuses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fedledger.protocol.errors import ChainError

Explain = Callable[[bytes, str], ChainError]
"""Turns revert data, and what was being done, into an error."""


class RefusedError(Exception):
    """A node's answer that is an error; ``data`` is what the node tells besides the message."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.data = data


def revert_data(error: BaseException | None) -> bytes:
    """Return the data with which a call reverted, as a refusal tells it; nothing if it tells none."""
    told = error.data if isinstance(error, RefusedError) else None
    found = told.get("result", told.get("data")) if isinstance(told, dict) else told
    if isinstance(found, str) and found.startswith("0x") and len(found) >= 10:
        with suppress(ValueError):
            return bytes.fromhex(found[2:])
    return b""
