"""One participant's data under several names."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.coalition import Coalition
from fedledger.protocol.methods.parameters import Checked


@ATTACKS.register("split_data@1")
@dataclass(frozen=True)
class SplitData(Checked):
    """Trains on a part of the first attacker's examples, which all attackers share out evenly."""

    honest: LocalTrainer
    coalition: Coalition

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        return replace(self.honest, dataset=self.part(context.owner))(context)

    def part(self, owner: str) -> Dataset:
        """Return the examples on which an attacker trains."""
        data, parts = self.coalition.dataset(self.coalition.members[0]), len(self.coalition.members)
        place = self.coalition.place(owner)
        # Of fewer examples than attackers, some have one that another has, too.
        indices = np.arange(place, max(len(data), place + 1), parts) % len(data)
        return data.take(indices.astype(np.int64))
