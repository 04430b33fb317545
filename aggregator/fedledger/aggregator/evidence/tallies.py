"""Tallies of participants, which fade from round to round and are kept as integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedledger.protocol.arithmetic.exact import Float64Array, IntArray, to_whole
from fedledger.protocol.errors import ConfigError

_OWNERS, _TALLIES = "owners", "tallies"
_ONE = float(1 << 30)
_MOST = 1 << 60
OWNER_WORDS = 3
"""An address fills so many words of 64 bits."""


@dataclass(frozen=True)
class Tallies:
    """Numbers that are kept for each participant.

    Parameters
    ----------
    owners
        Their addresses.
    values
        float64[owners, columns].
    """

    owners: tuple[str, ...]
    values: Float64Array

    @classmethod
    def read(cls, memory: Mapping[str, IntArray], columns: int) -> Tallies:
        """Return what :meth:`stored` made; empty in the first round.

        Raises
        ------
        ConfigError
            If it is of another method.
        """
        words = memory.get(_OWNERS, np.zeros((0, OWNER_WORDS), np.int64))
        kept = memory.get(_TALLIES, np.zeros((0, columns), np.int64))
        if words.ndim != 2 or words.shape[1:] != (OWNER_WORDS,) or kept.shape != (len(words), columns):
            raise ConfigError("What was kept of participants is of another method.", "Use the state of the last round.")
        return cls(owners_of(words), from_fixed(kept))

    def of(self, owners: Sequence[str]) -> Float64Array:
        """Return the numbers of these participants, float64[n, columns]; 0 for who is new."""
        places = {owner: place for place, owner in enumerate(self.owners)}
        found = np.zeros((len(owners), self.values.shape[1]))
        for row, owner in zip(found, owners, strict=True):
            place = places.get(owner.lower())
            if place is not None:
                row[:] = self.values[place]
        return found

    def updated(self, owners: Sequence[str], values: Float64Array) -> Tallies:
        """Return the tallies with new numbers for some participants."""
        merged = dict(zip(self.owners, self.values, strict=True))
        merged |= {owner.lower(): row for owner, row in zip(owners, values, strict=True)}
        ordered = sorted(merged)
        return Tallies(tuple(ordered), np.array([merged[owner] for owner in ordered]).reshape(-1, self.values.shape[1]))

    def stored(self) -> dict[str, IntArray]:
        """Return the arrays that a state holds."""
        return {_OWNERS: owner_words(self.owners), _TALLIES: to_fixed(self.values)}

    @staticmethod
    def size(participants: int, columns: int) -> int:
        """Return how many integers they are, for so many participants."""
        return participants * (OWNER_WORDS + columns)


def owner_words(owners: Sequence[str]) -> IntArray:
    """Return addresses as words, int64[n, 3]."""
    raw = b"".join(bytes(4) + bytes.fromhex(owner[2:]) for owner in owners)
    return np.frombuffer(raw, ">i8").astype(np.int64).reshape(-1, OWNER_WORDS)


def owners_of(words: IntArray) -> tuple[str, ...]:
    """Return the addresses that :func:`owner_words` took, in lower case."""
    return tuple("0x" + row.tobytes()[4:].hex() for row in words.astype(">i8"))


def to_fixed(values: Float64Array) -> IntArray:
    """Return numbers in parts of 2^30, cut to ±2^30."""
    return to_whole(values * _ONE, _MOST)


def from_fixed(values: IntArray) -> Float64Array:
    """Return what :func:`to_fixed` took."""
    numbers: Float64Array = values.astype(np.float64) / _ONE
    return numbers
