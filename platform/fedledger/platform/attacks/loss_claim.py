"""A lie about one's own loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.within import Within
from fedledger.protocol.methods.parameters import Real
from fedledger.protocol.records.update import START_LOSS


@ATTACKS.register("loss_claim@1")
@dataclass(frozen=True)
class LossClaim(Within):
    """Trains, or attacks in another way, and claims a loss of the round's starting model that is not its own.

    So rules that favour whoever is worst off, such as q_ffl@1 and agnostic@1, give it more weight, or less. Where
    updates do not tell their senders' losses, there is nothing to lie about.

    Parameters
    ----------
    loss
        What it claims, cut to the task's bound.
    """

    loss: Annotated[float, Real(0, 1e12)] = 1e12

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        made = self.other(context)
        if START_LOSS not in made.vectors:
            return made
        claim = np.array([min(self.loss, context.spec.fixed.bound)], np.float32)
        return replace(made, vectors={**made.vectors, START_LOSS: claim})
