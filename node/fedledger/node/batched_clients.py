"""Batched clients: several participants trained by the same calls, with the bits of training one after another.

For a tiny model the cost of a step is its calls, not its arithmetic, so participants with equally many examples take
their steps in the same calls. This pays for plain SGD on perceptrons whose parameters fit a processor's cache. Whether
it gives the same bits depends on the machine's matrix products; so for each number of participants and examples the
first groups are trained in both ways, and after any difference participants are trained one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.fast.perceptron_gradients import PROOF, Stack
from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.replayable.descent import trains_together
from fedledger.learning.replayable.trajectory import Tracing, Trajectory
from fedledger.learning.vectors import FlatModel, Float32Array, repeatable
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.solvers.replayable_sgd import ReplayableSGD
from fedledger.node.solvers.sgd import SGD
from fedledger.node.training import LocalTrainer, Trainer
from fedledger.protocol.arithmetic.random_streams import Restartable

MAX_COPIES = 16
MAX_PARAMETERS = 20_000
"""Parameters of a model up to which it pays: above, the products take the time."""


class BatchedUpdates(NamedTuple):
    """The updates of a batch of participants.

    Parameters
    ----------
    deltas
        float32[c, d].
    examples, steps
        Of each of them.
    means
        Returns each one's mean loss.
    trajectories
        What each one's update says of the states of its training, if it does.
    """

    deltas: NDArray[np.float32]
    examples: int
    steps: int
    means: Callable[[], Sequence[float]]
    trajectories: Sequence[bytes] = ()

    def updates(self) -> list[LocalUpdate]:
        """Return the updates, one by one."""
        each = zip(self.deltas, self.means(), self.trajectories or [b""] * len(self.deltas), strict=True)
        return [
            LocalUpdate(delta, self.examples, self.steps, mean, trajectory=trajectory)
            for delta, mean, trajectory in each
        ]


def _means(losses: Sequence[torch.Tensor]) -> list[float]:
    """Return each participant's mean, given the losses float32[c, n] of the examples of each step."""
    total, seen = np.zeros(len(losses[0])), 0
    for each in losses:
        seen += each.shape[1]
        total += each.mean(1).numpy().astype(np.float64) * each.shape[1]
    means: list[float] = (total / seen).tolist()
    return means


class BatchedClients:
    """Trains participants of one task in batches.

    Parameters
    ----------
    model
        The task's model, a perceptron; its parameters are overwritten.
    solver
        What each participant does.
    """

    def __init__(self, model: FlatModel, solver: SGD) -> None:
        self.model, self.solver = model, solver
        self._stacks: dict[int, Stack] = {}
        # By participants and examples, how many numbers are still to be compared; None after a difference.
        self._unproved: dict[tuple[int, int], int | None] = {}
        self._random = Restartable()

    @classmethod
    def of(cls, trainer: Trainer) -> BatchedClients | None:
        """Return an instance for participants such as this one, or None if batching is impossible or does not pay."""
        if type(trainer) is not LocalTrainer or type(trainer.solver) is not SGD or trainer.transforms:
            return None
        if trainer.objective.loss is not cross_entropy:
            return None
        fits = trainer.model.perceptron_gradient is not None and trainer.model.layout.dimension <= MAX_PARAMETERS
        return cls(trainer.model, trainer.solver) if fits and trainer.solver.max_gradient_norm is None else None

    def trains(self, trainer: Trainer) -> TypeGuard[LocalTrainer]:
        """Return whether this instance can train a participant."""
        if type(trainer) is not LocalTrainer:
            return False
        is_same = trainer.model is self.model and trainer.solver is self.solver
        return is_same and trainer.objective.loss is cross_entropy and not trainer.transforms

    def __call__(
        self, base: Float32Array, datasets: Sequence[Dataset], seeds: Sequence[bytes]
    ) -> BatchedUpdates | None:
        """Train from float32[d] on data sets of one size, whose random streams begin at the seeds.

        None is returned if the updates would not be the same as one by one.
        """
        examples = len(datasets[0])
        place = len(datasets), examples
        left = self._unproved.get(place, PROOF)
        # Whose strides do not tell how it lies, a single row, may be multiplied in another way.
        batch = self.solver.batch_size
        if left is None or 1 in (examples, batch, examples % batch):
            return None
        with torch.inference_mode():
            trained = self._train(base, datasets, seeds)
        if left > 0:
            same = self._count_same(trained.deltas, base, datasets, seeds)
            self._unproved[place] = None if same is None else left - same
            return None if same is None else trained
        return trained

    def _count_same(
        self, deltas: NDArray[np.float32], base: Float32Array, datasets: Sequence[Dataset], seeds: Sequence[bytes]
    ) -> int | None:
        """Return how many numbers are not zero, if all are the same one by one; else None."""
        # One by one, a solver seeds torch's global generator.
        with repeatable():
            for row, dataset, seed in zip(deltas, datasets, seeds, strict=True):
                if self.solver(self.model, base, dataset, self._random.restart(seed)).delta.tobytes() != row.tobytes():
                    return None
        return int(np.count_nonzero(deltas))

    def _train(self, base: Float32Array, datasets: Sequence[Dataset], seeds: Sequence[bytes]) -> BatchedUpdates:
        solver, copies, examples = self.solver, len(datasets), len(datasets[0])
        stack = self._stack(copies)
        trained, runs = stack.array, self.model.layout.trainable_runs
        for packed, aligned in runs:
            trained[:, aligned] = base[packed]
        inputs, labels, starts = _joined(datasets)
        # As many draws as one participant takes by itself, which seeds its model's own randomness first.
        orders = [list(solver.orders(examples, self._begun(seed))) for seed in seeds]
        velocity = torch.zeros_like(stack.gradient) if solver.momentum else stack.gradient
        losses = []
        for batches in zip(*orders, strict=True):
            chosen = torch.from_numpy((np.concatenate(batches).reshape(copies, -1) + starts).reshape(-1))
            shape = copies, len(batches[0])
            batch = inputs.index_select(0, chosen).view(*shape, *inputs.shape[1:])
            losses.append(stack(batch, labels.index_select(0, chosen).view(shape)))
            if solver.weight_decay:
                stack.gradient.add_(stack.values, alpha=solver.weight_decay)
            if solver.momentum:
                velocity.mul_(solver.momentum).add_(stack.gradient)
            stack.values.add_(velocity, alpha=-solver.learning_rate)
        deltas = np.empty((copies, len(base)), np.float32)
        for packed, aligned in runs:
            np.subtract(trained[:, aligned], base[packed], out=deltas[:, packed])
        return BatchedUpdates(deltas, examples, len(losses), partial(_means, losses))

    def _begun(self, seed: bytes) -> np.random.Generator:
        rng = self._random.restart(seed)
        rng.bit_generator.random_raw()
        return rng

    def _stack(self, copies: int) -> Stack:
        perceptron_gradient = self.model.perceptron_gradient
        if perceptron_gradient is None:
            raise ValueError("the model is no perceptron")
        if copies not in self._stacks:
            self._stacks[copies] = Stack(perceptron_gradient, len(self.model.trainable), copies)
        return self._stacks[copies]


class ReplayableClients:
    """Trains participants of one task in batches, where their solver is replayable: each gets the bits of its own.

    Parameters
    ----------
    model, solver, loss
        The task's.
    every
        Steps after which updates commit to the states of their training; None: they do not.
    """

    def __init__(self, model: FlatModel, solver: ReplayableSGD, loss: Loss, every: int | None = None) -> None:
        self.model, self.solver, self._loss, self._every = model, solver, loss, every
        self._streams = [Restartable() for _ in range(MAX_COPIES)]

    @classmethod
    def of(cls, trainer: Trainer, every: int | None = None) -> ReplayableClients | None:
        """Return an instance for participants such as this one, or None if batching is impossible or does not pay."""
        if type(trainer) is not LocalTrainer or type(trainer.solver) is not ReplayableSGD or trainer.transforms:
            return None
        together = trains_together(trainer.model, trainer.dataset.tensors[0])
        return cls(trainer.model, trainer.solver, trainer.objective.loss, every) if together else None

    def trains(self, trainer: Trainer) -> TypeGuard[LocalTrainer]:
        """Return whether this instance can train a participant."""
        if type(trainer) is not LocalTrainer:
            return False
        return trainer.model is self.model and trainer.solver is self.solver and not trainer.transforms

    def __call__(self, base: Float32Array, datasets: Sequence[Dataset], seeds: Sequence[bytes]) -> BatchedUpdates:
        """Train from float32[d] on data sets of one size, whose random streams begin at the seeds."""
        streams = [own.restart(seed) for own, seed in zip(self._streams, seeds, strict=False)]
        followed = [Trajectory() for _ in datasets]
        tracing = None if self._every is None else Tracing(self._every, [each.take for each in followed])
        trained = self.solver.together(self.model, base, datasets, streams, self._loss, tracing)
        roots = () if tracing is None else [each.root for each in followed]
        return BatchedUpdates(trained.deltas, len(datasets[0]), trained.steps, trained.means, roots)


def batched_clients(trainer: Trainer, every: int | None = None) -> BatchedClients | ReplayableClients | None:
    """Return what trains participants such as this one in batches, if anything does.

    Parameters
    ----------
    trainer
        Makes the updates of one of them.
    every
        Steps after which updates commit to the states of their training; None: they do not.
    """
    return (BatchedClients.of(trainer) if every is None else None) or ReplayableClients.of(trainer, every)


def _joined(datasets: Sequence[Dataset]) -> tuple[torch.Tensor, torch.Tensor, NDArray[np.int64]]:
    """Return inputs and labels that all are stretches of, and int64[c, 1] where each starts."""
    wholes, starts = zip(*(data.place for data in datasets), strict=True)
    if all(whole is wholes[0] for whole in wholes):
        return *wholes[0].tensors, np.array(starts)[:, None]
    inputs, labels = (torch.cat(parts) for parts in zip(*(data.tensors for data in datasets), strict=True))
    return inputs, labels, np.arange(0, len(labels), len(datasets[0]))[:, None]
