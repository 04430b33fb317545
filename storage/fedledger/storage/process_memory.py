"""How much memory a program takes, with all processes that it has started.

The measure is the proportional set size: what processes share is divided among them, so that a sum over a tree counts
each page once. Only Linux tells it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
INTERVAL = 0.02


def measurable() -> bool:
    """Return whether this system tells proportional set sizes."""
    return (PROC / "self" / "smaps_rollup").exists()


class ProcessTree:
    """A process and all that descend from it, also those whose parents have ended since they were seen first.

    Parameters
    ----------
    root
        Id of the process.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self._known = {pid: began for pid, _, began in _processes() if pid == root}

    def members(self) -> list[int]:
        """Return the ids of those that are alive."""
        alive = {pid: (parent, began) for pid, parent, began in _processes()}
        # An id that another process has got since is not that of a member.
        known = {pid: began for pid, began in self._known.items() if pid in alive and alive[pid][1] == began}
        children: dict[int, list[int]] = {}
        for pid, (parent, _) in alive.items():
            children.setdefault(parent, []).append(pid)
        waiting = list(known)
        while waiting:
            for pid in children.get(waiting.pop(), ()):
                if pid not in known:
                    known[pid] = alive[pid][1]
                    waiting.append(pid)
        self._known = known
        return sorted(known)

    def pss(self) -> int:
        """Return the sum of their proportional set sizes, in bytes."""
        return sum(_pss(pid) for pid in self.members())

    def peak(self, seconds: float) -> int:
        """Watch for some seconds, or until the root has ended, and return the largest sum in bytes."""
        end, most = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            sizes = {pid: _pss(pid) for pid in self.members()}
            if not sizes.get(self.root):
                break
            most = max(most, sum(sizes.values()))
            time.sleep(INTERVAL)
        return most


def _pss(pid: int) -> int:
    try:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def _processes() -> Iterator[tuple[int, int, int]]:
    """Yield id, parent and start of every process."""
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            # The name may hold blanks and parentheses.
            after = stat.rpartition(")")[2].split()
            yield int(folder.name), int(after[1]), int(after[19])
