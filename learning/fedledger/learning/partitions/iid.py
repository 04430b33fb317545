"""Equal parts at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.partitions.base import PARTITIONS, Indices
from fedledger.learning.partitions.sizes import require_enough


@PARTITIONS.register("iid@1")
@dataclass(frozen=True)
class Iid:
    """Divides a random permutation into parts whose sizes differ by at most one."""

    def __call__(self, dataset: Dataset, participants: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the data set; see the module's description."""
        require_enough(dataset, participants)
        return list(np.array_split(rng.permutation(len(dataset)), participants))
