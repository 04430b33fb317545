"""How long an answer may take in all, and how long it may be: a node that sends a byte a second answers nothing."""

from __future__ import annotations

import socket
import time

MOST_SECONDS = 60.0
"""For a whole answer, from its first byte to its last; a large page of logs takes a few."""
SILENCE_SECONDS = 30.0
"""Without a byte."""
MOST_BYTES = 128 * 1024 * 1024
"""Bytes of an answer, after which a smaller part must be asked for."""


class OversizedError(ValueError):
    """An answer that is longer than anybody needs."""

    def __init__(self) -> None:
        super().__init__(f"the answer has more than {MOST_BYTES} bytes")


class Deadline:
    """The time at which something must have happened."""

    def __init__(self, seconds: float = MOST_SECONDS) -> None:
        self._until = time.monotonic() + seconds

    def limit(self, connection: socket.socket) -> None:
        """Let the next wait for bytes end in time.

        Raises
        ------
        TimeoutError
            If the time is over.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        connection.settimeout(min(left, SILENCE_SECONDS))
