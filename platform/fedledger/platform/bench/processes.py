"""Work that is shared out among processes, each of which computes with one thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

import torch

from fedledger.learning.worker import become_worker

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that say how many threads libraries take."""

T = TypeVar("T")
R = TypeVar("R")


def shared_out(todo: Sequence[T], work: Callable[[T], R], workers: int) -> Iterator[tuple[T, R | BaseException]]:
    """Yield what each piece of work comes to as soon as it does, or the error of a process that was killed.

    Parameters
    ----------
    todo
        The pieces.
    work
        Does one of them; a function of a module, or a partial one, so that other processes find it.
    workers
        Number of processes; with one, the work is done in this one.
    """
    if workers <= 1:
        yield from ((each, work(each)) for each in todo)
        return
    with threads_each(1), ProcessPoolExecutor(workers, get_context("spawn"), _begin, (os.getpid(),)) as pool:
        waiting = {pool.submit(work, each): each for each in todo}
        try:
            for future in as_completed(waiting):
                # A process that was killed is nobody's answer.
                fault = future.exception()
                yield waiting[future], future.result() if fault is None else fault
        except BaseException:
            # Whoever interrupts the bench does not wait for what has not begun.
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def threads_each(count: int) -> Iterator[None]:
    """Have processes that are started compute with so many threads."""
    before = {name: os.environ.get(name) for name in THREADS}
    # Libraries read these when they are loaded.
    os.environ.update(dict.fromkeys(THREADS, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin(parent: int) -> None:
    become_worker(parent)
    torch.set_num_threads(1)
