"""Shards of data sorted by label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.partitions.base import PARTITIONS, Indices, require_strata
from fedledger.learning.partitions.sizes import require_enough, top_up
from fedledger.protocol.methods.parameters import Checked, Whole


@PARTITIONS.register("shards@1")
@dataclass(frozen=True)
class Shards(Checked):
    """Sorts by label, cuts into equal shards and distributes them at random (McMahan et al., 2017).

    Numbers to predict are sorted by their value.

    Parameters
    ----------
    shards_per_participant
        How many shards each participant gets; about the number of classes it sees.
    """

    shards_per_participant: Annotated[int, Whole(1, 2**31)] = 2

    def __call__(self, dataset: Dataset, participants: int, rng: np.random.Generator) -> list[Indices]:
        """Deal the data set; see the module's description."""
        require_enough(dataset, participants)
        # More shards than examples would be empty ones, however large the parameter.
        each = min(self.shards_per_participant, len(dataset))
        strata = require_strata(dataset)
        order = dataset.targets.reshape(-1) if dataset.classes is None else strata
        mixed = rng.permutation(len(dataset))
        by_label = mixed[np.argsort(order[mixed], kind="stable")]
        count = min(participants * each, len(dataset))
        shards = np.array_split(by_label, count)
        owners = rng.permutation(np.arange(count) % participants)
        parts = [
            np.concatenate([shards[i] for i in np.flatnonzero(owners == participant)])
            for participant in range(participants)
        ]
        return top_up(parts, 1, rng)
