"""Training on invented examples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.metrics import predict
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.protocol.arithmetic.random_streams import generator
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, OneOf

RANDOM, MEANS = "random", "means"


@ATTACKS.register("synthetic@1")
@dataclass(frozen=True)
class Synthetic(Checked):
    """Trains on invented examples: random ones that the global model labels, or each class's mean.

    Parameters
    ----------
    honest
        The participant's own trainer.
    inputs
        ``random``: uniform between the least and the largest of the participant's own in each place, with the labels
        that the round's base model gives them. ``means``: the mean of the participant's examples of each class, under
        noise of a tenth of their spread.
    """

    honest: LocalTrainer
    inputs: Annotated[str, OneOf((RANDOM, MEANS))] = RANDOM

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        data = self.honest.dataset
        if data.classes is None or data.inputs.dtype != np.float32 or data.targets.ndim != 1:
            raise ConfigError(
                "synthetic@1 invents examples with float32 inputs and one class each; the task has others.",
                "Use another attack, such as free_rider@1.",
            )
        rng = generator(context.spec.digest, "synthetic", context.index, context.owner)
        invented = self._random(context, rng) if self.inputs == RANDOM else self._means(rng)
        return replace(replace(self.honest, dataset=invented)(context), examples=len(data))

    def _random(self, context: TrainingContext, rng: np.random.Generator) -> Dataset:
        data = self.honest.dataset
        low, high = data.inputs.min(axis=0), data.inputs.max(axis=0)
        inputs = (low + rng.random(data.inputs.shape) * (high - low)).astype(np.float32)
        labels = np.maximum(predict(self.honest.model, context.base.vector, inputs), 0)
        return Dataset(inputs, labels, data.classes)

    def _means(self, rng: np.random.Generator) -> Dataset:
        data = self.honest.dataset
        classes, which = np.unique(data.targets, return_inverse=True)
        means = np.stack([data.inputs[data.targets == label].mean(axis=0) for label in classes])
        noise = rng.standard_normal(data.inputs.shape) * data.inputs.std() / 10
        return Dataset((means[which] + noise).astype(np.float32), data.targets, data.classes)
