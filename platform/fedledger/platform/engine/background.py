"""What follows a participant's training, done while the next one is trained."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from fedledger.learning.vectors import repeatable

LONG = 0.01
"""Seconds between two results from which on another thread pays: below, two threads of Python only get in each other's
way."""
MOST_WAITING = 4
"""Results that may wait for the thread; each holds an update."""

Job = Callable[[], object]


class Background:
    """Does what follows each training in another thread, one after another, if training takes long enough for that.

    Within it torch computes with one thread everywhere. Who leaves it has waited for all that was to be done, or gets
    the first error of it.
    """

    def __init__(self) -> None:
        self._guard = repeatable()
        self._thread: ThreadPoolExecutor | None = None
        self._needed: deque[Future[object]] = deque()
        self._useful: deque[Future[object]] = deque()

    def __enter__(self) -> Background:
        # A thread that measures a model may not change how many threads train another one.
        self._guard.__enter__()
        self._since = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
                _wait(self._useful)
        finally:
            if self._thread is not None:
                self._thread.shutdown(cancel_futures=True)
            self._guard.__exit__(kind, error, trace)

    def __call__(self, needed: Job, useful: Job) -> None:
        """Do what is needed, now or meanwhile; and what is useful, if it can be done meanwhile."""
        if time.perf_counter() - self._since < LONG:
            self.wait()
            needed()
        else:
            self._thread = self._thread or ThreadPoolExecutor(1, "meanwhile")
            self._needed.append(self._thread.submit(needed))
            self._useful.append(self._thread.submit(useful))
            _wait(self._useful, MOST_WAITING)
        self._since = time.perf_counter()

    def wait(self) -> None:
        """Wait for what is needed."""
        _wait(self._needed)


def _wait(waiting: deque[Future[object]], left: int = 0) -> None:
    """Wait for all but so many, and raise the first error of them."""
    while len(waiting) > left:
        waiting.popleft().result()
