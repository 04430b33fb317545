"""Training on one class's examples as if they were of another class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Whole


@ATTACKS.register("pair_flip@1")
@dataclass(frozen=True)
class PairFlip(Checked):
    """Trains honestly, but says that its examples of one class are of another one.

    All other work is real, so the update is like an honest one of somebody who has no examples of the class (Tolpegin
    et al. 2020, https://arxiv.org/abs/2007.08432).

    Parameters
    ----------
    honest
        The participant's own trainer.
    source
        The class whose examples it mislabels.
    target
        The class that it says they are of.
    """

    honest: LocalTrainer
    source: Annotated[int, Whole(0, 2**31)] = 9
    target: Annotated[int, Whole(0, 2**31)] = 7

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        data = self.honest.dataset
        if data.classes is None or data.targets.ndim != 1 or max(self.source, self.target) >= data.classes:
            raise ConfigError(
                f"pair_flip@1 leads from class {self.source} to class {self.target}, which the task does not have.",
                "Give other classes, or use another attack.",
            )
        targets = np.where(data.targets == self.source, np.int64(self.target), data.targets)
        return replace(self.honest, dataset=replace(data, targets=targets))(context)
