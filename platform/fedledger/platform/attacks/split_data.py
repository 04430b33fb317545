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
    """Trains on a part of the first attacker's examples, which all attackers share out evenly.

    Parameters
    ----------
    honest
        The participant's own trainer.
    coalition
        The attackers.
    whole
        Whether each of them trains on all of these examples, in an order of its own.
    """

    honest: LocalTrainer
    coalition: Coalition
    whole: bool = False

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        return replace(self.honest, dataset=self.part(context.owner))(context)

    def part(self, owner: str) -> Dataset:
        """Return the examples on which an attacker trains."""
        data, parts = self.coalition.dataset(self.coalition.members[0]), len(self.coalition.members)
        if self.whole:
            return data
        place = self.coalition.place(owner)
        # Of fewer examples than attackers, some have one that another has, too.
        indices = np.arange(place, max(len(data), place + 1), parts) % len(data)
        return data.take(indices.astype(np.int64))
