"""The last round's step instead of an update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.noise import disturbed, further_noise, noises
from fedledger.protocol.methods.parameters import Checked, Real


@ATTACKS.register("free_rider@1")
@dataclass(frozen=True)
class FreeRider(Checked):
    """Does not train: sends the last round's step under a little noise; in the first round only noise.

    So is everything that it sends besides; a model's statistics are those of the round's base. Lin, Du and Liu (2019,
    https://arxiv.org/abs/1911.12560).

    Parameters
    ----------
    honest
        The participant's own trainer.
    deviation
        Standard deviation of noise of one size.
    factor
        By which the step is multiplied.
    noise
        Norm of further noise, relative to the step's.
    common
        Share of the further noise that colluders have in common: two of them correlate by its square.
    """

    honest: LocalTrainer
    deviation: Annotated[float, Real(0, 1e12)] = 1e-3
    factor: Annotated[float, Real(0, 1e12)] = 1.0
    noise: Annotated[float, Real(0, 1e12)] = 0.0
    common: Annotated[float, Real(0, 1)] = 0.0

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        noise, dimension = noises(context, self.deviation), context.base.dimension
        last = np.zeros(dimension, np.float32)
        if context.before is not None:
            step = np.float32(self.factor) * (context.base.trained - context.before.trained)
            last = disturbed(context, step, self.noise, self.common)
        delta = last + noise(dimension)
        return LocalUpdate(
            delta,
            len(self.honest.dataset),
            1,
            vectors=further_noise(context, noise),
            statistics=context.base.statistic_values,
        )
