"""The data set's own groups."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.partitions.base import PARTITIONS, Indices
from fedledger.learning.partitions.sizes import require_enough
from fedledger.protocol.errors import ConfigError


@PARTITIONS.register("natural@1")
@dataclass(frozen=True)
class Natural:
    """Divides by the data set's own groups (hospitals, speakers, …), in the order of their names.

    With more groups than participants, the largest group left goes to the participant with the fewest
    examples. With fewer, the largest piece is halved until there is one for each.
    """

    def __call__(self, dataset: Dataset, participants: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the data set; see the module's description."""
        require_enough(dataset, participants)
        if dataset.groups is None:
            raise ConfigError("The data set has no groups.", "Use iid@1, dirichlet@1 or shards@1.")
        _, codes = np.unique(dataset.groups, return_inverse=True)
        mixed = rng.permutation(len(dataset))
        by_group = mixed[np.argsort(codes[mixed], kind="stable")]
        parts: list[Indices] = np.split(by_group, np.cumsum(np.bincount(codes))[:-1])
        if len(parts) > participants:
            parts = _merge(parts, participants)
        while len(parts) < participants:
            largest = max(range(len(parts)), key=lambda index: len(parts[index]))
            parts[largest : largest + 1] = np.array_split(parts[largest], 2)
        return [rng.permutation(part) for part in parts]


def _merge(parts: list[Indices], participants: int) -> list[Indices]:
    bins = [(0, index) for index in range(participants)]
    merged: list[list[Indices]] = [[] for _ in range(participants)]
    for part in sorted(parts, key=len, reverse=True):
        size, index = heapq.heappop(bins)
        merged[index].append(part)
        heapq.heappush(bins, (size + len(part), index))
    return [np.concatenate(pieces) for pieces in merged]
