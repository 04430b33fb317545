"""What a benchmark has found so far, a line for each result, so that one goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from fedledger.protocol.errors import ConfigError

T = TypeVar("T")


class KeptLines(Generic[T]):
    """Results by key, kept in a file of a folder; in memory alone without one.

    Parameters
    ----------
    folder
        The folder, made if it is not there; None: nothing outlives the process.
    name
        The file's name.
    read
        Makes a result of its JSON document.

    Raises
    ------
    ConfigError
        If the file holds other results.
    """

    def __init__(self, folder: Path | None, name: str, read: Callable[[Any], T]) -> None:
        self._file, self._read = None if folder is None else folder / name, read
        self._known: dict[str, T] = {}
        self._begun = False
        if folder is None or self._file is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for line in self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else ():
            if line:
                self._take(line)

    def get(self, key: str) -> T | None:
        """Return the result of a key; None if there is none yet."""
        return self._known.get(key)

    def keep(self, key: str, document: object, result: T) -> None:
        """Keep a result, whose JSON document goes into the file."""
        self._known[key] = result
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                # The line before it may be half written.
                file.write("\n" * (not self._begun) + json.dumps({"of": key, "result": document}) + "\n")
            self._begun = True

    def _take(self, line: str) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            # Half a line, as the command was killed while it wrote: that run is played again.
            return
        try:
            self._known[found["of"]] = self._read(found["result"])
        except (ValueError, TypeError, LookupError) as error:
            raise ConfigError(f"{self._file} cannot be read: {error}.", "Give a new folder.") from error
