"""Work that several threads share, as many as NumPy's linear algebra may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import TypeVar

from threadpoolctl import ThreadpoolController

P = TypeVar("P")

_TAKEN = Lock()


def in_threads(work: Callable[[Iterator[P]], None], parts: Sequence[P]) -> None:
    """Call ``work`` in several threads, each of which takes parts from an iterator until none is left.

    An error of one of them is raised once all have ended. A single part is worked on in the calling thread, in which
    linear algebra may use all threads; elsewhere each thread has one of its own. While one call has the threads, any
    other one works in its calling thread alone.
    """
    threads = min(len(parts), _allowed()) if len(parts) > 1 else 1
    # Of a list's iterator, each thread gets another element.
    left = iter(list(parts))
    # How many threads linear algebra uses holds for the whole process.
    if threads == 1 or not _TAKEN.acquire(blocking=False):
        work(left)
        return
    try:
        with _controller().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(work, left) for _ in range(threads)]:
                done.result()
    finally:
        _TAKEN.release()


def _allowed() -> int:
    """Return how many threads linear algebra may use here, and no more than there are processors for this process."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([usable, *(int(library["num_threads"]) for library in _controller().info())]))


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
