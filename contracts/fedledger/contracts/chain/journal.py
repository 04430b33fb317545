"""A development chain's journal: its blocks, or else what was done to it, so that it can be made again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class Block:
    """A block of a chain that can make the same blocks again.

    Parameters
    ----------
    timestamp
        Seconds since 1970.
    mix
        What the block's miner drew at random, 32 bytes.
    hash
        The block's hash.
    transactions
        Its transactions as they were signed, in order.
    """

    timestamp: int
    mix: bytes
    hash: bytes
    transactions: tuple[bytes, ...]


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


class _Block(BaseModel):
    kind: Literal["block"]
    timestamp: int = Field(ge=0, lt=2**64)
    mix: str = Field(pattern="^[0-9a-f]{64}$")
    hash: str = Field(pattern="^[0-9a-f]{64}$")
    transactions: list[Annotated[str, Field(pattern="^([0-9a-f]{2})+$")]]

    @property
    def entry(self) -> Block:
        return Block(
            timestamp=self.timestamp,
            mix=bytes.fromhex(self.mix),
            hash=bytes.fromhex(self.hash),
            transactions=tuple(map(bytes.fromhex, self.transactions)),
        )


_ENTRY: TypeAdapter[_Advance | _Payment | _Transaction | _Block] = TypeAdapter(
    Annotated[_Advance | _Payment | _Transaction | _Block, Field(discriminator="kind")]
)


class ChainJournal:
    """A file to which every block, or else every payment, transaction and step in time, is added.

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
        if _is_cut_off(path):
            # What comes next has a line of its own.
            self._add("\n")

    def write(self, kind: str, value: Any) -> None:
        """Add an entry."""
        elapsed = round(time.monotonic() - self._began, 1)
        self._add(json.dumps({"kind": kind, "value": value, "elapsed": elapsed}) + "\n")

    def write_block(self, block: Block) -> None:
        """Add a block."""
        shown = {"timestamp": block.timestamp, "mix": block.mix.hex(), "hash": block.hash.hex()}
        transactions = [raw.hex() for raw in block.transactions]
        self._add(json.dumps({"kind": "block", **shown, "transactions": transactions}) + "\n")

    def _add(self, text: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)


def _is_cut_off(path: Path) -> bool:
    """Return whether a file ends within a line."""
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def read_journal(path: Path) -> Sequence[Block] | Sequence[Entry]:
    """Return what a journal says, in order: blocks, or else what was done; nothing if there is no such file.

    Raises
    ------
    StoreError
        If the file cannot be read, or says something that no journal does.
    """
    entries = list(_read_entries(path))
    blocks = [entry for entry in entries if isinstance(entry, Block)]
    done = [entry for entry in entries if isinstance(entry, Entry)]
    if blocks and done:
        raise StoreError(f"The journal {path} of the run's chain is part of two.", "Start the run anew.")
    return blocks or done


def _read_entries(path: Path) -> Iterator[Block | Entry]:
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
