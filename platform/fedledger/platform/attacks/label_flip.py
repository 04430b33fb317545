"""Training on reversed labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fedledger.learning.arrays import Numbers
from fedledger.learning.data import Dataset
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.protocol.errors import ConfigError


@ATTACKS.register("label_flip@1")
@dataclass(frozen=True)
class LabelFlip:
    """Trains on reversed labels: class c becomes the last class minus c.

    Of several labels that may apply, those that do not apply become those that do. Numbers to predict are mirrored in
    the middle of the participant's own.
    """

    honest: LocalTrainer

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        data = self.honest.dataset
        return replace(self.honest, dataset=replace(data, targets=flipped(data)))(context)


def flipped(data: Dataset) -> Numbers:
    """Return the reversed targets of a data set.

    Raises
    ------
    ConfigError
        If they are whole numbers other than 0 and 1, such as tokens, which have no reverse.
    """
    targets = data.targets
    if data.classes is not None:
        return data.classes - 1 - targets
    if targets.dtype == np.int64:
        if not ((targets == 0) | (targets == 1)).all():
            raise ConfigError(
                "label_flip@1 reverses classes, labels that apply or not, and numbers; these targets are none of them.",
                "Use another attack, such as sign_flip@1.",
            )
        return 1 - targets
    low, high = targets.min(axis=0), targets.max(axis=0)
    # Halves first, as the sum of two numbers may be beyond what float32 holds.
    return np.asarray((low / 2 - targets / 2 + high / 2) * 2, np.float32).clip(low, high)
