"""Minibatch SGD with momentum: what a participant does in federated averaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.node.solvers.base import BLANK, SOLVERS, LocalUpdate, Memory
from fedledger.node.solvers.minibatch import Minibatches, difference
from fedledger.protocol.methods.parameters import Real


@SOLVERS.register("sgd@1")
@dataclass(frozen=True, kw_only=True)
class SGD(Minibatches):
    """Minibatch SGD with momentum from the base model, momentum starting at zero each round.

    A step is g ← clip(∇) + weight_decay·θ, v ← momentum·v + g, θ ← θ − learning_rate·v, as in
    ``torch.optim.SGD`` after ``torch.nn.utils.clip_grad_norm_``.

    Parameters
    ----------
    momentum
        In [0, 1). The others are those of `Minibatches`.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    momentum: Annotated[float, Real(0, 1, below=True)] = 0.0

    def __call__(
        self,
        model: FlatModel,
        base: Float32Array,
        dataset: Dataset,
        rng: np.random.Generator,
        memory: Memory = BLANK,
        loss: Loss = cross_entropy,
    ) -> LocalUpdate:
        """Train ``model`` from ``base`` on ``dataset``; it holds the trained vector afterwards.

        Raises
        ------
        ConfigError
            If ``base`` does not fit the model, or if the data set is empty.
        """
        model.load(base)
        steps, mean = self.train(model, dataset, rng, loss, momentum=self.momentum)
        return LocalUpdate(difference(model, base), len(dataset), steps, mean)
