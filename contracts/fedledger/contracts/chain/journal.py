"""A development chain's journal: what was done to it, so that it can be done again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """What was done: an ``advance`` of time, a ``payment`` or a ``transaction``, when (seconds)."""

    kind: str
    value: Any
    elapsed: float


class ChainJournal:
    """A file to which every payment, transaction and step in time is added.

    Parameters
    ----------
    path
        The file.
    elapsed
        Seconds between the chain's start and now.
    """

    def __init__(self, path: Path, elapsed: float = 0.0) -> None:
        self._path = path
        self._began = time.monotonic() - elapsed

    def write(self, kind: str, value: Any) -> None:
        """Add an entry."""
        elapsed = round(time.monotonic() - self._began, 1)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "value": value, "elapsed": elapsed}) + "\n")


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the entries of a journal in order; none if there is no such file."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            # The last line may be cut off: what it was about never counted.
            continue
        yield Entry(entry["kind"], entry["value"], float(entry["elapsed"]))
