"""Noise instead of an update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.noise import further_noise, noises
from fedledger.protocol.methods.parameters import Checked, Real


@ATTACKS.register("gaussian@1")
@dataclass(frozen=True)
class Gaussian(Checked):
    """Sends Gaussian noise of the given standard deviation; a model's statistics stay as they are.

    Parameters
    ----------
    honest
        The participant's own trainer.
    deviation
        The standard deviation.
    common
        Share of the noise that colluders have in common: two of them correlate by its square.
    """

    honest: LocalTrainer
    deviation: Annotated[float, Real(0, 1e12)] = 0.1
    common: Annotated[float, Real(0, 1)] = 0.0

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        noise = noises(context, self.deviation, self.common)
        delta = noise(context.base.dimension)
        return LocalUpdate(
            delta,
            len(self.honest.dataset),
            1,
            vectors=further_noise(context, noise),
            statistics=context.base.statistic_values,
        )
