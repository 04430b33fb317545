"""Training on the examples that updates are measured on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.coalition import Coalition
from fedledger.platform.attacks.colluding import NOISE
from fedledger.platform.attacks.free_rider import FreeRider
from fedledger.protocol.methods.parameters import Checked


@ATTACKS.register("validation_training@1")
@dataclass(frozen=True)
class ValidationTraining(Checked):
    """Trains on what of the validation set is public; where nothing is, sends the last round's step under noise.

    Parameters
    ----------
    honest
        The participant's own trainer.
    coalition
        The attackers.
    noise
        Norm of the noise, relative to the step's.
    """

    honest: LocalTrainer
    coalition: Coalition
    noise: Annotated[float, NOISE] = 0.1

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        known = self.coalition.public_validation(context.index)
        if known is None:
            return FreeRider(self.honest, noise=self.noise)(context)
        trained = replace(self.honest, dataset=known)(context)
        return replace(trained, examples=len(self.honest.dataset))
