"""Bounds on time and memory within which a test ends, whatever it tries."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from types import FrameType

MIB = 1 << 20


class TookTooLongError(BaseException):
    """No handler of ordinary errors takes it for one."""


@contextlib.contextmanager
def within(seconds: float, what: object = "") -> Iterator[None]:
    """Fail what takes longer; generous, so that a busy machine is no finding."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLongError(f"{what!r:.500} took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    outer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *outer)


def peak_mib() -> float:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
