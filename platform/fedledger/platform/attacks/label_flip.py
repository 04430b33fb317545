"""Training on reversed labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fedledger.learning.data import Dataset
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS


@ATTACKS.register("label_flip@1")
@dataclass(frozen=True)
class LabelFlip:
    """Trains on reversed labels: class c becomes the last class minus c."""

    honest: LocalTrainer

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        data = self.honest.dataset
        flipped = Dataset.of(data.inputs, data.classes - 1 - data.targets, classes=data.classes)
        return replace(self.honest, dataset=flipped)(context)
