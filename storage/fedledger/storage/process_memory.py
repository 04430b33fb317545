"""How much memory a program takes, with all processes that it has started.

The measure is the proportional set size: what processes share is divided among them, so that a sum over a tree counts
each page once. Only Linux reports it.
"""

from __future__ import annotations

import contextlib
import time

import psutil

INTERVAL = 0.02


def measurable() -> bool:
    """Return whether this system reports proportional set sizes."""
    return hasattr(psutil.Process().memory_full_info(), "pss")


class ProcessTree:
    """A process and all its descendants, also those whose parents have ended since they were first seen.

    Parameters
    ----------
    root
        Id of the process.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self._known: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            self._known.append(psutil.Process(root))

    def members(self) -> list[int]:
        """Return the ids of those that are alive."""
        return sorted(process.pid for process in self._alive())

    def pss(self) -> int:
        """Return the sum of their proportional set sizes, in bytes."""
        return sum(map(_pss, self._alive()))

    def peak(self, seconds: float) -> int:
        """Watch for some seconds, or until the root has ended, and return the largest sum in bytes."""
        end, most = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            sizes = {process.pid: _pss(process) for process in self._alive()}
            if not sizes.get(self.root):
                break
            most = max(most, sum(sizes.values()))
            time.sleep(INTERVAL)
        return most

    def _alive(self) -> list[psutil.Process]:
        found: dict[psutil.Process, None] = {}
        # The root's descendants come first, with one look at all processes; only orphans take another.
        for process in self._known:
            # False also if another process has got its id since.
            if process not in found and process.is_running():
                found[process] = None
                with contextlib.suppress(psutil.NoSuchProcess):
                    found |= dict.fromkeys(process.children(recursive=True))
        self._known = list(found)
        return self._known


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
