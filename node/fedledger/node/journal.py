"""The journal: the updates, signatures and states of one participant in one task, which outlast the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.strict import hexadecimal
from fedledger.protocol.errors import StoreError
from fedledger.protocol.records import update as wire
from fedledger.storage import durable_files
from fedledger.storage.durable_files import write_atomically

UPDATE, SIGNED, STATE = "update", "signed", "state"
"""Kinds of files in a journal: an update, the one of a round that was signed, and the state that came with it."""
KEPT_STATES = 16
"""States that stay in a journal: those of rounds that may be voided together (8), and some for reorganisations."""
_BASE = "base.digest"


@dataclass(frozen=True)
class JournalEntry:
    """An update that is in a journal: its round, the digest of the model that it is relative to, and its content id."""

    round: int
    base: bytes
    reference: ContentRef

    def staleness(self, current: RoundHistory) -> int:
        """Return how many models before the round's base its own lies."""
        return (current.staleness_of(self.base) or 0) if current.earlier else 0


class Journal:
    """A folder of files, one for each kind and round.

    Parameters
    ----------
    folder
        The folder, which is made if need be; other tasks' files may lie in it, too.
    name
        What the names of this task's files begin with.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._found: dict[str, set[int]] | None = None
        self._entry: JournalEntry | None = None
        self._started_from = 0
        folder.mkdir(parents=True, exist_ok=True)
        durable_files.remove_stale(folder)

    def path(self, kind: str, index: int) -> str:
        """Return where the file of a kind and round lies."""
        return f"{self._folder}/{self._name}-{index}.{kind}"

    def content(self, index: int) -> bytes:
        """Return the bytes of the update that was made for a round."""
        return durable_files.read(self.path(UPDATE, index))

    def entry(self, current: RoundHistory) -> JournalEntry | None:
        """Return the round's update if it is in the journal, and relative to a base that the round takes."""
        if self._entry is None or self._entry.round != current.index:
            if current.index not in self._rounds_with(UPDATE):
                return None
            data = self.content(current.index)
            base = hexadecimal(wire.read_header(data).base, 32)
            self._entry = JournalEntry(current.index, base, ContentRef.of(data))
        # A reorganisation may have given the round another base model.
        return None if current.staleness_of(self._entry.base) is None else self._entry

    def write(self, index: int, base: bytes, data: bytes, state: Mapping[str, NDArray[np.float32]]) -> JournalEntry:
        """Write a round's update, and the state that came with it.

        Parameters
        ----------
        index
            The round.
        base
            Digest of the model that the update is relative to.
        data
            The update's bytes.
        state
            What the participant keeps for later rounds; may be empty.
        """
        # Whoever finds the update must find the state as well. Without the update both are made again, and the same.
        if state:
            base_of = np.frombuffer(base, np.uint8)
            write_atomically(self.path(STATE, index), tensors.encode({**state, _BASE: base_of}))
            self._rounds_with(STATE).add(index)
        write_atomically(self.path(UPDATE, index), data)
        self._rounds_with(UPDATE).add(index)
        self._entry = entry = JournalEntry(index, base, ContentRef.of(data))
        if state:
            self._forget_old_states()
        return entry

    def sign(self, entry: JournalEntry) -> bool:
        """Keep an update as the one that was signed in its round; False if another one was signed before."""
        index, signed = entry.round, self.path(SIGNED, entry.round)
        if index in self._rounds_with(SIGNED):
            return ContentRef.of(durable_files.read(signed)) == entry.reference
        # Another name of the update, which may be made again relative to another model.
        durable_files.link(signed, self.path(UPDATE, index), self.content(index))
        self._rounds_with(SIGNED).add(index)
        return True

    def has_signed(self, index: int) -> bool:
        """Return whether an update was signed in a round."""
        return index in self._rounds_with(SIGNED)

    def state_before(
        self, index: int, rounds: Mapping[int, RoundHistory], counts: Callable[[RoundHistory], bool]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the state of the newest update before a round that counts; empty if there is none.

        Parameters
        ----------
        index
            The round.
        rounds
            The task's rounds.
        counts
            Tells whether this participant's update of a round counts.

        Raises
        ------
        StoreError
            If its file cannot be read.
        """
        for earlier in sorted(self._rounds_with(STATE), reverse=True):
            before = rounds.get(earlier)
            if earlier >= index or before is None or not counts(before):
                continue
            own = self._state(self.path(STATE, earlier))
            # A reorganisation may have given that round another base model, and this participant no part in it.
            if before.staleness_of(own.pop(_BASE).tobytes()) is not None:
                self._started_from = earlier
                return {name: vector.astype(np.float32, copy=False) for name, vector in own.items()}
        return {}

    def _state(self, path: str) -> dict[str, NDArray[np.generic]]:
        try:
            named = tensors.decode(durable_files.read(path))
            named[_BASE] = named[_BASE].astype(np.uint8, copy=False)
        except (OSError, tensors.TensorFormatError, KeyError) as error:
            raise StoreError(f"{path} cannot be read: {error}.", "Delete it: the one before it is used.") from error
        return named

    def _forget_old_states(self) -> None:
        # However many updates are refused, the last state that counted stays.
        for index in {*sorted(self._rounds_with(STATE))[:-KEPT_STATES]} - {self._started_from}:
            durable_files.remove(self.path(STATE, index))
            self._rounds_with(STATE).remove(index)

    def _rounds_with(self, kind: str) -> set[int]:
        """Return the rounds that have a file of a kind; looked for once, as nobody else writes any."""
        if self._found is None:
            self._found = {UPDATE: set(), SIGNED: set(), STATE: set()}
            for path in durable_files.listed(self._folder, f"{self._name}-*.*"):
                number = path.stem.rpartition("-")[2]
                if (rounds := self._found.get(path.suffix[1:])) is not None and number.isascii() and number.isdigit():
                    rounds.add(int(number))
        return self._found[kind]
