"""SCAFFOLD (Karimireddy et al. 2020, https://arxiv.org/abs/1910.06378), algorithm 1 with option II."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.node.solvers.base import BLANK, SOLVERS, LocalUpdate, Memory
from fedledger.node.solvers.minibatch import Minibatches, difference

CONTROL = "control"


@SOLVERS.register("scaffold@1")
@dataclass(frozen=True, kw_only=True)
class Scaffold(Minibatches):
    """SGD with steps corrected for how the participant's gradients differ from the average.

    With the base model x, the server's control c and the participant's own c_i, both zero at first, K steps
    y ← y − learning_rate · (g + c − c_i) lead to c_i⁺ = c_i − c + (x − y) / (K · learning_rate): the mean of the
    gradients g on the way, weight decay included. The update sends y − x, and c_i⁺ − c_i as the vector ``control``;
    c_i⁺ is kept as the state ``control``. Controls are zero where nothing is trained, and there is no momentum, under
    which (x − y) / (K · learning_rate) is no mean of gradients.

    If training diverges, so that the control is not finite, the participant keeps the one that it had.
    """

    sends: ClassVar[tuple[str, ...]] = (CONTROL,)

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
            If ``base`` or a control does not fit the model, or if the data set is empty.
        """
        model.load(base)
        start = model.trainable.clone()
        server, own = (_control(model, vectors.get(CONTROL)) for vectors in (memory.server, memory.own))
        correction = server - own

        def correct(gradient: torch.Tensor, parameters: torch.Tensor) -> None:
            gradient.add_(correction)

        steps, mean = self.train(model, dataset, rng, loss, correct)
        change = start.sub_(model.trainable).div_(steps * self.learning_rate).sub_(server)
        kept = own + change
        if not bool(torch.isfinite(kept).all()):
            kept = own
        return LocalUpdate(
            delta=difference(model, base),
            examples=len(dataset),
            steps=steps,
            loss=mean,
            vectors={CONTROL: model.packed(change)},
            state={CONTROL: model.packed(kept)},
        )


def _control(model: FlatModel, control: Float32Array | None) -> torch.Tensor:
    return torch.zeros_like(model.trainable) if control is None else model.aligned(control)
