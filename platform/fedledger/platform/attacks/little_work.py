"""Training on a few examples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.protocol.methods.parameters import Checked, Real, Whole


@ATTACKS.register("little_work@1")
@dataclass(frozen=True)
class LittleWork(Checked):
    """Trains honestly on a part of its data only, the same in every round, and says that it was all.

    Parameters
    ----------
    honest
        The participant's own trainer.
    share
        Share of the examples.
    most
        Number of examples at most.
    """

    honest: LocalTrainer
    share: Annotated[float, Real(0, 1)] = 1.0
    most: Annotated[int, Whole(1, 2**31)] = 10

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        data = self.honest.dataset
        count = max(1, min(self.most, int(self.share * len(data))))
        chosen = np.linspace(0, len(data) - 1, count).astype(np.int64)
        return replace(replace(self.honest, dataset=data.take(chosen))(context), examples=len(data))
