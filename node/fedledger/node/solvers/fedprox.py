"""FedProx (Li et al. 2020, https://arxiv.org/abs/1812.06127)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.node.solvers.base import BLANK, SOLVERS, LocalUpdate, Memory
from fedledger.node.solvers.minibatch import difference
from fedledger.node.solvers.sgd import SGD
from fedledger.protocol.methods.parameters import Real


@SOLVERS.register("fedprox@1")
@dataclass(frozen=True, kw_only=True)
class FedProx(SGD):
    """SGD on the loss plus mu/2 · ‖θ − base‖², which keeps local models near the base model.

    The penalty's gradient mu·(θ − base) is added after the loss's own was clipped.

    Parameters
    ----------
    mu
        Strength of the proximal term, at least 0; with 0 this is SGD. The others are those of `SGD`.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    mu: Annotated[float, Real(0, 1e12)] = 0.01

    def __call__(
        self,
        model: FlatModel,
        base: Float32Array,
        dataset: Dataset,
        rng: np.random.Generator,
        memory: Memory = BLANK,
        loss: Loss = cross_entropy,
    ) -> LocalUpdate:
        """Train ``model`` from ``base`` on ``dataset``; see `SGD`."""
        model.load(base)
        start = model.trainable.clone()
        apart, mu = torch.empty_like(start), self.mu

        def pull(gradient: torch.Tensor, parameters: torch.Tensor) -> None:
            gradient.add_(torch.sub(parameters, start, out=apart), alpha=mu)

        steps, mean = self.train(model, dataset, rng, loss, pull, self.momentum)
        return LocalUpdate(difference(model, base), len(dataset), steps, mean)
