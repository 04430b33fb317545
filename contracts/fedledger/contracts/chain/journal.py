"""A development chain's journal: what was done to it, so that it can be done again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter
from pydantic_core import from_json

from fedledger.protocol.errors import StoreError
from fedledger.storage.foreign_files import MAX_TABLE_BYTES, read_file, shaped

LONGEST = 10**9
"""Most seconds that a chain may be moved on at once, or may have lived: some thirty years."""


@dataclass(frozen=True)
class Entry:
    """What was done: an ``advance`` of time, a ``payment`` or a ``transaction``, when (seconds)."""

    kind: str
    value: Any
    elapsed: float


class _Line(BaseModel):
    elapsed: float = Field(ge=0, le=LONGEST)

    @property
    def entry(self) -> Entry:
        kind, value = (getattr(self, name) for name in ("kind", "value"))
        return Entry(kind, value, self.elapsed)


class _Advance(_Line):
    kind: Literal["advance"]
    value: int = Field(ge=0, le=LONGEST)


class _Payment(_Line):
    kind: Literal["payment"]
    value: tuple[Annotated[str, Field(pattern="^0x[0-9a-fA-F]{40}$")], Annotated[int, Field(ge=0, lt=2**256)]]


class _Transaction(_Line):
    kind: Literal["transaction"]
    value: str = Field(pattern="^([0-9a-f]{2})+$")


_ENTRY: TypeAdapter[_Advance | _Payment | _Transaction] = TypeAdapter(
    Annotated[_Advance | _Payment | _Transaction, Field(discriminator="kind")]
)


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
    """Yield the entries of a journal in order; none if there is no such file.

    Raises
    ------
    StoreError
        If the file cannot be read, or a line says something that no journal does.
    """
    if not path.exists():
        return
    try:
        for line in read_file(path, MAX_TABLE_BYTES).splitlines():
            try:
                entry = from_json(line)
            except ValueError:
                # A line may be cut off where a program was killed: what it was about never counted.
                continue
            yield shaped(_ENTRY, entry).entry
    except (OSError, ValueError) as error:
        raise StoreError(
            f"The journal {path} of the run's chain cannot be read: {error}.", "Start the run anew."
        ) from error
