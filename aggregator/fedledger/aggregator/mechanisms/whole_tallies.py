"""Whole numbers that a mechanism keeps for each participant, as int64 arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedledger.aggregator.evidence.tallies import OWNER_WORDS, owner_words, owners_of
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.errors import ConfigError

_OWNERS, _NUMBERS = "owners", "numbers"
LARGEST = 1 << 62
"""Numbers are cut to this, and to minus this."""
Rows = dict[str, tuple[int, ...]]
"""The numbers of each participant, by its address in lower case."""


def read(tables: Mapping[str, IntArray], columns: int) -> Rows:
    """Return what :func:`stored` made; nothing in the first round.

    Raises
    ------
    ConfigError
        If it is of another mechanism.
    """
    words = tables.get(_OWNERS, np.zeros((0, OWNER_WORDS), np.int64))
    kept = tables.get(_NUMBERS, np.zeros((0, columns), np.int64))
    if words.ndim != 2 or words.shape[1:] != (OWNER_WORDS,) or kept.shape != (len(words), columns):
        raise ConfigError("What was kept of participants is of another mechanism.", "Use the state of the last round.")
    return {owner: tuple(row) for owner, row in zip(owners_of(words), kept.tolist(), strict=True)}


def stored(rows: Rows, columns: int) -> dict[str, IntArray]:
    """Return the arrays that a state holds, without participants that have nothing but zeros."""
    owners = sorted(owner for owner, row in rows.items() if any(row))
    numbers = [[max(-LARGEST, min(LARGEST, number)) for number in rows[owner]] for owner in owners]
    return {_OWNERS: owner_words(owners), _NUMBERS: np.array(numbers, np.int64).reshape(-1, columns)}


def size(participants: int, columns: int) -> int:
    """Return how many integers they are at most, for so many participants."""
    return participants * (OWNER_WORDS + columns)
