"""Runs that are played in several processes unless they are kept already; what is wrong with one ends no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from fedledger.platform.bench.kept_lines import KeptLines
from fedledger.platform.bench.processes import shared_out
from fedledger.protocol.errors import FedledgerError

R = TypeVar("R")
T = TypeVar("T")

Announce = Callable[[str, int, int], None]
"""Is told what has just been played, how much is, and how much there will be."""


def play_missing(
    runs: Mapping[str, R],
    kept: KeptLines[T],
    work: Callable[[R], T],
    document: Callable[[T], object],
    workers: int,
    announce: Announce,
) -> dict[str, BaseException]:
    """Play the runs that are not kept, and keep what they come to; return what went wrong with others, by key.

    Parameters
    ----------
    runs
        By key.
    kept
        What was played before.
    work
        Plays one; a function of a module, or a partial one, so that other processes find it.
    document
        Makes the JSON document of what a run came to.
    workers
        Number of processes.
    announce
        Is told of each run.
    """
    todo = [(key, run) for key, run in runs.items() if kept.get(key) is None]
    faults: dict[str, BaseException] = {}
    for done, ((key, run), found) in enumerate(shared_out(todo, partial(_tried, work), workers), start=1):
        if isinstance(found, BaseException):
            faults[key] = found
        else:
            kept.keep(key, document(found), found)
        announce(str(run), done, len(todo))
    return faults


def _tried(work: Callable[[R], T], named: tuple[str, R]) -> T | BaseException:
    try:
        return work(named[1])
    except FedledgerError as error:
        return error
    except Exception as error:
        # Not every error reaches another process as it is.
        return RuntimeError(f"{type(error).__name__}: {error}")
