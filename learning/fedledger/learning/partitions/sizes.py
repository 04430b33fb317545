"""Least sizes of participants' parts."""

from __future__ import annotations

import heapq

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.partitions.base import Indices
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import whole


def require_enough(dataset: Dataset, participants: int, each: int = 1) -> None:
    """Raise ConfigError if the data cannot give every participant so many examples."""
    whole("participants", participants, 1, 1_000_000)
    if len(dataset) < participants * each:
        raise ConfigError(
            f"{len(dataset)} examples cannot give {participants} participants {each} each.",
            f"Use at most {len(dataset) // each} participants, or more data.",
        )


def top_up(parts: list[Indices], minimum: int, rng: np.random.Generator) -> list[Indices]:
    """Shuffle the parts, moving examples from the largest to those with fewer than ``minimum``."""
    lists: list[list[int]] = [rng.permutation(part).tolist() for part in parts]
    richest = [(-len(part), index) for index, part in enumerate(lists) if len(part) > minimum]
    heapq.heapify(richest)
    for part in lists:
        while len(part) < minimum:
            size, donor = richest[0]
            part.append(lists[donor].pop())
            heapq.heapreplace(richest, (size + 1, donor))
    return [rng.permutation(np.asarray(part, np.int64)) for part in lists]
