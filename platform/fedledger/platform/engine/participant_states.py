"""What participants keep between rounds, in bounded memory: what does not fit waits on disk."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import StoreError

Vectors = Mapping[str, NDArray[Any]]

MEMORY = 256 * 1024 * 1024
"""Bytes of states that stay in memory."""
_NAME = re.compile(r"([0-9]{1,9})-([0-9]{1,9})\.state")
SHELF = 1000
"""Participants whose files share a folder."""


class ParticipantStates:
    """The newest state of each participant, and on disk those of the last checkpoint.

    A state belongs to the round that made it. A run that goes on from a checkpoint finds the states of then, whatever
    was written after it.

    Parameters
    ----------
    folder
        Where states wait; a temporary folder unless given.
    memory
        Bytes of states that stay in memory.
    """

    def __init__(self, folder: Path | None = None, memory: int = MEMORY) -> None:
        self._temporary = TemporaryDirectory(prefix="fedledger-states-") if folder is None else None
        self._folder = Path(self._temporary.name) if self._temporary is not None else folder or Path()
        self._limit, self._used = memory, 0
        self._cached: OrderedDict[int, tuple[int, Vectors]] = OrderedDict()
        self._unsaved: set[int] = set()
        self._files: dict[int, list[int]] = {}
        self._safe = 0
        for file in self._folder.glob("*/*.state"):
            # What somebody else put there is no state.
            if named := _NAME.fullmatch(file.name):
                self._files.setdefault(int(named[1]), []).append(int(named[2]))
        for indices in self._files.values():
            indices.sort()

    def get(self, number: int) -> Vectors:
        """Return what a participant kept last; nothing if it never did."""
        if number in self._cached:
            self._cached.move_to_end(number)
            return self._cached[number][1]
        indices = self._files.get(number)
        if not indices:
            return {}
        vectors = self._read(number, indices[-1])
        self._hold(number, indices[-1], vectors)
        return vectors

    def put(self, number: int, index: int, vectors: Vectors) -> None:
        """Keep what a participant has after a round."""
        self._unsaved.add(number)
        self._hold(number, index, vectors)

    def save(self) -> None:
        """Have the newest states on disk; those of the last checkpoint stay."""
        for number in sorted(self._unsaved):
            self._write(number)
        if self._unsaved:
            # One wait for the whole disk instead of one for each file.
            os.sync()
        self._unsaved.clear()

    def forget_before(self, index: int) -> None:
        """Forget what a run that goes on from the checkpoint of round ``index`` does not ask for."""
        self._safe = index
        for number in self._files:
            self._prune(number)

    def return_to(self, index: int) -> None:
        """Forget the states of rounds after ``index``, up to which all were saved."""
        self._cached.clear()
        self._unsaved.clear()
        self._used, self._safe = 0, index
        for number, indices in list(self._files.items()):
            for later in [i for i in indices if i > index]:
                self._path(number, later).unlink(missing_ok=True)
                indices.remove(later)
            if not indices:
                del self._files[number]

    def _hold(self, number: int, index: int, vectors: Vectors) -> None:
        if number in self._cached:
            self._used -= _size(self._cached.pop(number)[1])
        self._cached[number] = index, vectors
        self._used += _size(vectors)
        while self._used > self._limit and len(self._cached) > 1:
            oldest = next(iter(self._cached))
            if oldest in self._unsaved:
                self._write(oldest)
                self._unsaved.discard(oldest)
            self._used -= _size(self._cached.pop(oldest)[1])

    def _write(self, number: int) -> None:
        index, vectors = self._cached[number]
        path = self._path(number, index)
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(tensors.encode(dict(vectors)))
            part.replace(path)
        except OSError as error:
            raise StoreError(
                f"The state of participant {number} could not be written to {self._folder}: {error.strerror}.",
                "Free some space, then resume.",
            ) from error
        indices = self._files.setdefault(number, [])
        if index not in indices:
            indices.append(index)
        self._prune(number)

    def _prune(self, number: int) -> None:
        """Delete files that neither this run nor one that goes on from the checkpoint asks for."""
        indices = self._files[number]
        saved = max((i for i in indices if i <= self._safe), default=None)
        for old in [i for i in indices if i not in (saved, indices[-1])]:
            self._path(number, old).unlink(missing_ok=True)
            indices.remove(old)

    def _read(self, number: int, index: int) -> Vectors:
        path = self._path(number, index)
        try:
            return {name: np.array(vector) for name, vector in tensors.decode(path.read_bytes()).items()}
        except (OSError, tensors.TensorFormatError) as error:
            raise StoreError(f"{path} cannot be read: {error}.", "Start the run anew.") from error

    def _path(self, number: int, index: int) -> Path:
        return self._folder / str(number // SHELF) / f"{number}-{index}.state"


def _size(vectors: Vectors) -> int:
    return sum(vector.nbytes for vector in vectors.values())
