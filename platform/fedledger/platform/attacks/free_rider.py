"""The last round's step instead of an update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.noise import further_noise, noises
from fedledger.protocol.methods.parameters import Checked, Real


@ATTACKS.register("free_rider@1")
@dataclass(frozen=True)
class FreeRider(Checked):
    """Does not train: sends the last round's step under a little noise; in the first round only noise.

    So is everything that it sends besides; a model's statistics are those of the round's base.
    """

    honest: LocalTrainer
    deviation: Annotated[float, Real(0, 1e12)] = 1e-3

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        noise = noises(context, self.deviation)
        last = 0 if context.before is None else context.base.trained - context.before.trained
        delta = last + noise(context.base.dimension)
        return LocalUpdate(
            delta,
            len(self.honest.dataset),
            1,
            vectors=further_noise(context, noise),
            statistics=context.base.statistic_values,
        )
