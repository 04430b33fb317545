"""Times by which what is asked of others has to be over, however slowly they answer.

A time limit on each read does not help against who sends one byte a second. Every exchange has a deadline as a whole,
and a program that has to act by some time lets all of its exchanges together take no longer.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cached_property


class _Limit:
    """A time that is worked out when it is first asked for, as few exchanges need it."""

    def __init__(self, seconds: Callable[[], float], outer: _Limit | None) -> None:
        self._seconds, self._outer = seconds, outer

    @cached_property
    def end(self) -> float:
        end = time.monotonic() + self._seconds()
        return end if self._outer is None else min(end, self._outer.end)


_limit: ContextVar[_Limit | None] = ContextVar("limit", default=None)


@contextlib.contextmanager
def within(seconds: Callable[[], float]) -> Iterator[None]:
    """Have all exchanges that this thread begins in a ``with`` block be over some seconds after the first begins.

    Parameters
    ----------
    seconds
        Returns how many. It is asked once, and only if there is an exchange.
    """
    token = _limit.set(_Limit(seconds, _limit.get()))
    try:
        yield
    finally:
        _limit.reset(token)


def end_of(seconds: float) -> float:
    """Return by when, on the monotonic clock, an exchange has to be over that may take some seconds by itself."""
    limit, end = _limit.get(), time.monotonic() + seconds
    return end if limit is None else min(end, limit.end)


def left_until(end: float) -> float:
    """Return the seconds that are left.

    Raises
    ------
    TimeoutError
        If there are none.
    """
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("it takes too long")
    return left


class Cutter:
    """Cuts sockets off at a deadline, for clients that know no other limit than one on each read.

    Parameters
    ----------
    end
        The deadline, on the monotonic clock.
    """

    def __init__(self, end: float) -> None:
        self._timer = threading.Timer(max(0.0, end - time.monotonic()), self._cut)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.is_over = False

    def __enter__(self) -> Cutter:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._sockets.clear()

    def watch(self, connected: socket.socket) -> None:
        """Cut a socket off, too, when it is time."""
        with self._lock:
            self._sockets.append(connected)
            if self.is_over:
                _shut(connected)

    def _cut(self) -> None:
        with self._lock:
            self.is_over = True
            for connected in self._sockets:
                _shut(connected)


def _shut(connected: socket.socket) -> None:
    # Not the method of an encrypted socket, which changes it while another thread reads from it.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
