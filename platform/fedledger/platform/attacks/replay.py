"""The best update of the last round, sent once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.metrics import HeldOut, evaluate
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.colluding import NOISE, Colluding
from fedledger.platform.attacks.free_rider import FreeRider
from fedledger.platform.attacks.noise import disguised


@ATTACKS.register("replay@1")
@dataclass(frozen=True)
class Replay(Colluding):
    """Does not train: sends the best honest update of the last round under noise; before there is one, only noise.

    The best is the one that, added to the round's base, has the lowest loss on what the attackers know: the public
    validation set, or else their own examples.

    Parameters
    ----------
    noise
        Norm of the noise, relative to the update's.
    """

    noise: Annotated[float, NOISE] = 0.1

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        revealed = self.coalition.revealed(context)
        if not revealed:
            return FreeRider(self.honest)(context)
        return disguised(context, self.sent(revealed[self._best(context, revealed)]), self.noise)

    def _best(self, context: TrainingContext, updates: Sequence[LocalUpdate]) -> int:
        base = context.base
        vectors = [np.concatenate([base.trained + update.delta, base.statistic_values]) for update in updates]
        known: Dataset = self.coalition.public_validation(context.index) or self.honest.dataset
        held_out = HeldOut(known.inputs, known.targets, self.honest.objective)
        losses = [found.loss for found in evaluate(self.honest.model, vectors, held_out)]
        return int(np.nan_to_num(losses, nan=np.inf).argmin())
