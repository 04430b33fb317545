"""Local training: from the round's base model and a participant's data to its update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fedledger.learning.data import Dataset
from fedledger.learning.vectors import FlatModel, Float32Array, single_thread
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.parameters import build, real, whole
from fedledger.protocol.registry import Registry


@dataclass(frozen=True, eq=False)
class LocalUpdate:
    """What local training gave.

    Attributes
    ----------
    delta
        float32[d]: the trained model minus the base; not finite if training diverged.
    examples
        Number of examples in the participant's data set.
    steps
        Number of optimiser steps taken.
    loss
        Mean cross-entropy in nats over the examples of all steps, each before its step.
    """

    delta: Float32Array
    examples: int
    steps: int
    loss: float


Solver: TypeAlias = Callable[[FlatModel, Float32Array, Dataset, np.random.Generator], LocalUpdate]

SOLVERS: Registry[Callable[..., Solver]] = Registry("local solver", "fedledger.solvers")


def build_solver(key: str, params: Mapping[str, Any]) -> Solver:
    """Return a local solver of a registered kind.

    Raises
    ------
    ConfigError
        If there is no such solver, or if the parameters do not suit it.
    """
    return build(SOLVERS, key, params)


@SOLVERS.register("sgd@1")
@dataclass(frozen=True)
class SGD:
    """Minibatch SGD with momentum from the base model, momentum starting at zero each round.

    A step is g ← clip(∇) + weight_decay·θ, v ← momentum·v + g, θ ← θ − learning_rate·v, as in
    ``torch.optim.SGD`` after ``torch.nn.utils.clip_grad_norm_``. Batches are consecutive stretches of a
    fresh permutation each epoch; an epoch's last batch may be smaller.

    Parameters
    ----------
    learning_rate
        Above 0.
    momentum
        In [0, 1).
    batch_size
        Examples a step.
    local_epochs, local_steps
        How long to train; give exactly one of them.
    weight_decay
        Strength of the L2 penalty's gradient.
    max_gradient_norm
        Bound on each step's gradient in Euclidean norm; None for no bound.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    learning_rate: float
    momentum: float = 0.0
    batch_size: int = 32
    local_epochs: int | None = None
    local_steps: int | None = None
    weight_decay: float = 0.0
    max_gradient_norm: float | None = None

    def __post_init__(self) -> None:
        real("learning_rate", self.learning_rate, above=True)
        if real("momentum", self.momentum) >= 1:
            raise ConfigError(f"momentum is {self.momentum!r}.", "Give a number below 1.")
        real("weight_decay", self.weight_decay)
        whole("batch_size", self.batch_size)
        if (self.local_epochs is None) == (self.local_steps is None):
            raise ConfigError("local_epochs and local_steps exclude each other.", "Give exactly one of them.")
        if self.local_steps is None:
            whole("local_epochs", self.local_epochs)
        else:
            whole("local_steps", self.local_steps)
        if self.max_gradient_norm is not None:
            real("max_gradient_norm", self.max_gradient_norm, above=True)

    def __call__(self, model: FlatModel, base: Float32Array, dataset: Dataset, rng: np.random.Generator) -> LocalUpdate:
        """Train ``model`` from ``base`` on ``dataset``.

        The result is a function of the arguments and of the machine: torch runs with one thread, and the
        model's own randomness (dropout) is seeded from ``rng``. The model holds the trained
        vector afterwards.

        Raises
        ------
        ConfigError
            If ``base`` does not fit the model, or if the data set is empty.
        """
        if not len(dataset):
            raise ConfigError("The participant has no example to train on.", "Give it data, or leave it out.")
        model.load(base)
        model.module.train()
        with single_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63)))
            steps, loss = self._train(model, dataset, rng)
        return LocalUpdate(model.vector() - base, len(dataset), steps, loss)

    def _train(self, model: FlatModel, dataset: Dataset, rng: np.random.Generator) -> tuple[int, float]:
        inputs, labels = torch.from_numpy(dataset.inputs), torch.from_numpy(dataset.labels)
        parameters, gradient = model.trainable, model.gradient
        velocity = torch.zeros_like(gradient) if self.momentum else gradient
        total, seen, steps = 0.0, 0, 0
        for batch in self._batches(len(dataset), rng):
            chosen = torch.from_numpy(batch)
            gradient.zero_()
            loss = functional.cross_entropy(model.module(inputs[chosen]), labels[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            if self.max_gradient_norm is not None:
                gradient.mul_((self.max_gradient_norm / (gradient.norm() + 1e-6)).clamp_(max=1.0))
            if self.weight_decay:
                gradient.add_(parameters, alpha=self.weight_decay)
            if self.momentum:
                velocity.mul_(self.momentum).add_(gradient)
            parameters.add_(velocity, alpha=-self.learning_rate)
            total += loss.item() * len(batch)
            seen += len(batch)
            steps += 1
        return steps, total / seen

    def _batches(self, n: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        per_epoch = -(-n // self.batch_size)
        steps = self.local_steps or per_epoch * (self.local_epochs or 0)
        for step in range(steps):
            start = step % per_epoch * self.batch_size
            if start == 0:
                order = rng.permutation(n)
            yield order[start : start + self.batch_size]
