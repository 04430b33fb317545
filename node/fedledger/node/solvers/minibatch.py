"""The one loop in which all solvers take their minibatch steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.fast.perceptron_gradients import by_autograd
from fedledger.learning.global_generators import seed_generators
from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real, Whole

Adjust: TypeAlias = Callable[[torch.Tensor, torch.Tensor], object]
"""Adds to the gradient (first argument) what follows from the parameters (second); both are flat and aligned."""

Backward: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Returns the mean loss of a batch, given its inputs and targets, and leaves a gradient in the model."""

MAX_STEPS = 1 << 20
"""Most steps of a round: whoever posts a task may not keep its participants busy for ever."""
SINGLE = "Expected more than 1 value per channel when training"
"""How torch begins to say that a batch has a single example."""


@dataclass(frozen=True, kw_only=True)
class Batches(Checked):
    """Parameters of solvers that take minibatch steps; they are keywords.

    Batches are consecutive stretches of a fresh permutation each epoch; an epoch's last batch may be smaller, unless it
    is left out.

    Parameters
    ----------
    learning_rate
        Above 0.
    batch_size
        Examples a step.
    local_epochs, local_steps
        How long to train; give exactly one of them.
    weight_decay
        Strength of the L2 penalty's gradient.
    drop_last
        Whether an epoch's last batch is left out where it is smaller and not the only one.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    learning_rate: Annotated[float, Real(0, 1e30, above=True)]
    batch_size: Annotated[int, Whole(1, 2**31)] = 32
    local_epochs: Annotated[int | None, Whole(1, 1_000_000)] = None
    local_steps: Annotated[int | None, Whole(1, 1_000_000_000)] = None
    weight_decay: Annotated[float, Real(0, 1e6)] = 0.0
    drop_last: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.local_epochs is None) == (self.local_steps is None):
            both = "neither local_epochs nor" if self.local_steps is None else "both local_epochs and"
            raise ConfigError(f"The solver has {both} local_steps.", "Give exactly one of them.")

    def steps(self, n: int) -> int:
        """Return how many steps training takes on ``n`` examples."""
        return self.local_steps or -(-self._used(n) // self.batch_size) * (self.local_epochs or 0)

    def computed(self, n: int) -> int:
        """Return over how many examples training computes, of ``n`` that a participant has: those of all steps."""
        used = self._used(n)
        if self.local_steps is None:
            return used * (self.local_epochs or 0)
        epochs, rest = divmod(self.local_steps, max(1, -(-used // self.batch_size)))
        return epochs * used + min(rest * self.batch_size, used)

    def orders(self, n: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Yield the indices of each step's examples, int64."""
        left, used = self.steps(n), self._used(n)
        if left > MAX_STEPS:
            raise ConfigError(
                f"Training takes {left:,} local steps a round; the limit is {MAX_STEPS:,}.",
                "Leave this task, or post one with fewer epochs or steps.",
            )
        while left:
            order = self.permutation(n, rng)
            for start in range(0, used, self.batch_size)[:left]:
                yield order[start : start + self.batch_size]
                left -= 1

    def permutation(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the order in which an epoch takes ``n`` examples."""
        return rng.permutation(n)

    def _used(self, n: int) -> int:
        """Return how many of ``n`` examples an epoch takes."""
        return n - n % self.batch_size if self.drop_last and n > self.batch_size else n


@dataclass(frozen=True, kw_only=True)
class Minibatches(Batches):
    """Solvers whose steps torch computes.

    Parameters
    ----------
    max_gradient_norm
        Bound on each step's gradient of the loss in Euclidean norm; None for no bound. The others are those of
        `Batches`.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    max_gradient_norm: Annotated[float | None, Real(0, 1e12, above=True)] = None

    def train(
        self,
        model: FlatModel,
        dataset: Dataset,
        rng: np.random.Generator,
        loss: Loss,
        adjust: Adjust | None = None,
        momentum: float = 0.0,
    ) -> tuple[int, float]:
        """Take the steps from where ``model`` is, and return their number and the mean loss of their examples.

        A step is g ← adjust(clip(∇) ) + weight_decay·θ, v ← momentum·v + g, θ ← θ − learning_rate·v, with v = 0 at
        first. The result is a function of the arguments and of the machine: the model's own randomness (dropout), also
        that of NumPy's and Python's global generators, is seeded from ``rng``. The caller guards the process, see
        `fedledger.learning.vectors.repeatable`.

        Raises
        ------
        ConfigError
            If the data set is empty, if there would be more than ``MAX_STEPS`` steps, or if the model normalises over
            a batch and one has a single example.
        """
        require_examples(len(dataset))
        module = model.module
        if not module.training:
            module.train()
        # The same as int(rng.integers(2**63)) with NumPy's usual bit generators, in a quarter of the time.
        seed = rng.bit_generator.random_raw() >> 1
        torch.default_generator.manual_seed(seed)
        inputs, targets = dataset.tensors
        is_away = model.device.type != "cpu"
        if is_away:
            torch.manual_seed(seed)
            inputs, targets = inputs.to(model.device), targets.to(model.device)
        parameters, gradient, rate = model.trainable, model.gradient, -self.learning_rate
        bound, weight_decay = self.max_gradient_norm, self.weight_decay
        velocity = torch.zeros_like(gradient) if momentum else gradient
        backward = self.backward(model, loss, inputs.dtype, seed)
        total, seen, steps = 0.0, 0, 0
        try:
            for order in self.batches(len(dataset), rng):
                batch = order.to(model.device) if is_away else order
                value = backward(inputs.index_select(0, batch), targets.index_select(0, batch))
                if bound is not None:
                    gradient.mul_((bound / (gradient.norm() + 1e-6)).clamp_(max=1.0))
                if adjust is not None:
                    adjust(gradient, parameters)
                if weight_decay:
                    gradient.add_(parameters, alpha=weight_decay)
                if momentum:
                    velocity.mul_(momentum).add_(gradient)
                parameters.add_(velocity, alpha=rate)
                examples = batch.shape[0]
                total += value.item() * examples
                seen += examples
                steps += 1
        except Exception as error:
            error.add_note(f"in batch {steps + 1} of the {len(dataset)} examples")
            told = self._told(error, len(dataset))
            if told is None:
                raise
            raise told from error
        return steps, total / seen

    def backward(self, model: FlatModel, loss: Loss, inputs: torch.dtype, seed: int) -> Backward:
        """Return what computes a batch's loss and gradient.

        A solver that descends another function than the loss overrides this.

        Parameters
        ----------
        model, loss
            The task's.
        inputs
            Type of the inputs.
        seed
            Of 63 bits, for this training; the process's generators from which a model may draw are seeded with it.
        """
        if loss is cross_entropy and inputs == torch.float32 and model.perceptron_gradient is not None:
            # A perceptron draws nothing, and the time that seeding takes would be felt.
            return model.perceptron_gradient
        seed_generators(seed)
        return partial(by_autograd, model.module, model.gradient, loss)

    def require_suited(self, model: FlatModel, dataset: Dataset, sizes: Iterable[int], loss: Loss) -> None:
        """Raise ConfigError if a model does not take the batches of participants; see :meth:`require_batches`."""
        self.require_batches(model, dataset.inputs, sizes)

    def require_batches(self, model: FlatModel, inputs: NDArray[np.generic], sizes: Iterable[int]) -> None:
        """Check that a model takes the smallest batches of participants with so many examples.

        Parameters
        ----------
        model
            The model; a forward pass may change its statistics.
        inputs
            Any examples, n ≥ 1.
        sizes
            How many examples each participant has.

        Raises
        ------
        ConfigError
            If one has a batch of a single example, over which the model cannot normalise.
        """
        single = next((n for n in sizes if self._smallest(n) == 1), None)
        if single is None:
            return
        try:
            with torch.no_grad():
                model.module.train()(torch.from_numpy(np.ascontiguousarray(inputs[:1])))
        except Exception as error:
            # Whatever else a model raises, it raises for larger batches as well, which are tried elsewhere.
            told = self._told(error, single)
            if told is not None:
                raise told from error

    def _smallest(self, n: int) -> int:
        """Return the size of the smallest batch of ``n`` examples that training takes."""
        used = self._used(n)
        rest = used % self.batch_size
        comes = self.local_steps is None or self.local_steps > used // self.batch_size
        return rest if rest and comes else min(used, self.batch_size)

    def _told(self, error: Exception, n: int) -> ConfigError | None:
        """Return what to do about an error in a step, if it is that a batch has a single example."""
        if not isinstance(error, ValueError) or not str(error).startswith(SINGLE):
            return None
        remedy = "normalise by groups (GroupNorm) instead of over a batch"
        if n > self.batch_size > 1:
            remedy = f"set drop_last = true, take another batch_size, or {remedy}"
        elif n > 1:
            remedy = f"take a larger batch_size, or {remedy}"
        else:
            remedy = f"give the participant more examples, or {remedy}"
        return ConfigError(
            f"A participant has {n} example(s), so that with batch_size = {self.batch_size} a batch has a single one, "
            "over which the model cannot normalise.",
            f"{remedy[0].upper()}{remedy[1:]}.",
        )

    def batches(self, n: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
        """Yield what :meth:`orders` does, as tensors."""
        return map(torch.from_numpy, self.orders(n, rng))


def require_examples(n: int) -> None:
    """Raise ConfigError if there is nothing to train on."""
    if not n:
        raise ConfigError("The participant has no example to train on.", "Give it data, or leave it out.")


def difference(model: FlatModel, base: Float32Array) -> Float32Array:
    """Return float32[d]: what ``model`` holds minus ``base`` float32[d + s], of what updates move."""
    d = model.layout.dimension
    trained = model.vector()[:d]
    trained -= base[:d]
    return trained
