"""Training for a noisy channel, worst-case model (Ang et al. 2020, https://arxiv.org/abs/1911.00251)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.node.solvers.base import BLANK, SOLVERS, LocalUpdate, Memory
from fedledger.node.solvers.minibatch import Backward, Minibatches, difference
from fedledger.protocol.methods.parameters import Real, Whole

SURROGATE = "surrogate"
ROUNDS = "rounds"
MOST_ROUNDS = 1 << 24
"""Rounds that are counted: up to here a float32 holds each number."""


@SOLVERS.register("worst_case_noise@1")
@dataclass(frozen=True, kw_only=True)
class WorstCaseNoise(Minibatches):
    """Sampling-based successive convex approximation of min over θ of max over ‖e‖ ≤ radius of F(θ + e).

    A step samples noise e of norm ``radius`` and minimises a convex surrogate of F near θ: with the averaged gradient
    d ← (1 − ρ)·d + ρ·clip(∇F(θ + e)), the minimiser of d·(y − θ) + ‖y − θ‖² / (2·learning_rate) is
    ŷ = θ − learning_rate·d, and θ ← θ + γ·(ŷ − θ). In a participant's t-th round ρ = t^−``averaging`` and
    γ = t^−``diminishing``. Proofs that such steps converge ask for ½ < averaging < diminishing ≤ 1; by default steps do
    not diminish, as neither does a channel's noise. d and t go on from the participant's last update that counted.
    Weight decay is a part of the surrogate that is not averaged. The loss that is reported is that at θ + e.

    Noise is drawn uniformly from the sphere, where a convex function is largest. Of several draws the one is taken
    at which the batch's loss is largest; they are compared in evaluation mode, so that the model's statistics do not
    move and nothing is dropped.

    Parameters
    ----------
    radius
        Norm of the noise: about σ·√d for Gaussian noise of deviation σ in d coordinates.
    draws
        How many are drawn a step. Where there are several, each takes a forward pass.
    averaging, diminishing
        Exponents of the weights ρ and γ. With radius and both exponents 0 this is SGD. The others are those of
        `Minibatches`.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    radius: Annotated[float, Real(0, 1e6)] = 1.0
    draws: Annotated[int, Whole(1, 64)] = 1
    averaging: Annotated[float, Real(0, 1)] = 0.6
    diminishing: Annotated[float, Real(0, 1)] = 0.0

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
            If ``base`` or the state does not fit the model, or if the data set is empty.
        """
        model.load(base)
        before = memory.own.get(SURROGATE)
        average = torch.zeros_like(model.trainable) if before is None else model.aligned(before)
        rounds = 1 if before is None else min(int(memory.own[ROUNDS][0]) + 1, MOST_ROUNDS)
        rho, gamma, decay = rounds**-self.averaging, rounds**-self.diminishing, self.weight_decay

        def approximate(gradient: torch.Tensor, parameters: torch.Tensor) -> None:
            average.mul_(1 - rho).add_(gradient, alpha=rho)
            torch.mul(average, gamma, out=gradient)
            if decay:
                # The loop adds decay·θ, of which the step takes the share gamma.
                gradient.add_(parameters, alpha=(gamma - 1) * decay)

        steps, mean = self.train(model, dataset, rng, loss, approximate)
        return LocalUpdate(
            difference(model, base),
            len(dataset),
            steps,
            mean,
            state={SURROGATE: model.packed(average), ROUNDS: np.array([rounds], np.float32)},
        )

    def backward(self, model: FlatModel, loss: Loss, inputs: torch.dtype, seed: int) -> Backward:
        """Return what computes a batch's loss and gradient at a point that is off by noise."""
        plain = super().backward(model, loss, inputs, seed)
        if not self.radius:
            return plain
        draw = _sphere(model, self.radius, np.random.default_rng(seed))
        parameters, kept = model.trainable, torch.empty_like(model.trainable)

        def perturbed(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            kept.copy_(parameters)
            try:
                draws = (draw() for _ in range(self.draws))
                noise = next(draws) if self.draws == 1 else _worst(model, loss, draws, inputs, targets)
                torch.add(kept, noise, out=parameters)
                return plain(inputs, targets)
            finally:
                parameters.copy_(kept)

        return perturbed


def _worst(
    model: FlatModel, loss: Loss, draws: Iterable[torch.Tensor], inputs: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return at which of the draws the batch's loss is largest, the first of equals; the model is off by the last."""
    module, parameters, kept = model.module, model.trainable, model.trainable.clone()
    worst, largest = torch.zeros_like(kept), -math.inf
    module.eval()
    with torch.no_grad():
        for noise in draws:
            torch.add(kept, noise, out=parameters)
            value = loss(module(inputs), targets, inputs).item()
            if not value <= largest:
                worst, largest = noise, value
    module.train()
    return worst


def _sphere(model: FlatModel, radius: float, rng: np.random.Generator) -> Callable[[], torch.Tensor]:
    """Return what draws points of a sphere, laid out as ``model.trainable``, whose padding stays zero."""
    places = model.aligned(np.ones(model.layout.dimension, np.float32)).cpu().numpy()

    def draw() -> torch.Tensor:
        values = rng.standard_normal(len(places), np.float32) * places
        norm = math.sqrt(float(np.square(values, dtype=np.float64).sum()))
        return torch.from_numpy(values * np.float32(radius / (norm or 1.0))).to(model.device)

    return draw
