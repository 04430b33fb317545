"""SGD whose updates anyone can make again to the byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.replayable.descent import Rates, Trained, descend, require_replayable
from fedledger.learning.replayable.inputs import cut_inputs
from fedledger.learning.replayable.trajectory import Tracing, Trajectory
from fedledger.learning.schemas.fit import Misfit
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.node.solvers.base import BLANK, SOLVERS, LocalUpdate, Memory, Solver
from fedledger.node.solvers.minibatch import Batches, require_examples
from fedledger.protocol.methods.parameters import AnyOf, Real, Whole


@SOLVERS.register("replayable_sgd@1")
@dataclass(frozen=True, kw_only=True)
class ReplayableSGD(Batches):
    """SGD with momentum and a proximal term that gives the same bytes on any processor and release of torch and NumPy.

    A step is v ← momentum·v + ∇ + weight_decay·θ + mu·(θ − base), θ ← θ − learning_rate·v. All products of matrices are
    exact, and numbers are rounded to grids in between; ``docs/replayable.md`` says which models have such a form, and
    how far the result is from that of floating point. It follows from the base model, the examples, the parameters and
    the random stream alone.

    Parameters
    ----------
    momentum
        0, or from 1/16 to below 1.
    mu
        Strength of FedProx's term. The others are those of `Batches`.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    learning_rate: Annotated[float, Real(1e-9, 1e3)]
    batch_size: Annotated[int, Whole(1, 2**16)] = 32
    momentum: Annotated[float, AnyOf((Real(0, 0), Real(0.0625, 1, below=True)))] = 0.0
    mu: Annotated[float, Real(0, 1e6)] = 0.0

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
            If the model or its loss has no replayable form, if ``base`` does not fit it, or if the data set is empty.
        """
        return Watched(self, None)(model, base, dataset, rng, memory, loss)

    def traced(self, every: int) -> Solver:
        """Return this solver with updates that commit to the states of their training, after every so many steps."""
        return _Traced(self, every)

    @property
    def rates(self) -> Rates:
        """What a step is."""
        return Rates(self.learning_rate, self.momentum, self.weight_decay, self.mu)

    def together(
        self,
        model: FlatModel,
        base: Float32Array,
        datasets: Sequence[Dataset],
        streams: Sequence[np.random.Generator],
        loss: Loss = cross_entropy,
        tracing: Tracing | None = None,
    ) -> Trained:
        """Train from ``base`` on each data set, with the bytes that each gives by itself.

        Parameters
        ----------
        datasets, streams
            Equally many examples each, and a random stream of its own for each; several only where
            :func:`fedledger.learning.replayable.descent.trains_together`.
        tracing
            What looks on.
        """
        examples = len(datasets[0])
        require_examples(examples)
        orders = [self.orders(examples, rng) for rng in streams]
        return descend(model, base, datasets, orders, self.rates, loss, tracing)

    def require_suited(self, model: FlatModel, dataset: Dataset, sizes: Iterable[int], loss: Loss) -> None:
        """Raise ConfigError if a model or its loss has no replayable form."""
        require_replayable(model, dataset.tensors[0], loss)

    def cautions(self, dataset: Dataset) -> list[Misfit]:
        """Return how many of the inputs' numbers are cut, if any are."""
        return cut_inputs(dataset.inputs)

    def permutation(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the order of ``n`` words that the bit generator draws.

        NumPy promises what a bit generator draws, and not what is made of it.
        """
        order: NDArray[np.int64] = np.argsort(rng.bit_generator.random_raw(n), kind="stable")
        return order


@dataclass(frozen=True)
class Watched:
    """A solver whose training something looks on.

    Parameters
    ----------
    solver
        What trains.
    tracing
        What looks on, for one participant; None: nothing does.
    """

    solver: ReplayableSGD
    tracing: Tracing | None

    def __call__(
        self,
        model: FlatModel,
        base: Float32Array,
        dataset: Dataset,
        rng: np.random.Generator,
        memory: Memory = BLANK,
        loss: Loss = cross_entropy,
    ) -> LocalUpdate:
        """Train as the solver does."""
        trained = self.solver.together(model, base, [dataset], [rng], loss, self.tracing)
        model.load(base + trained.deltas[0])
        return LocalUpdate(trained.deltas[0], len(dataset), trained.steps, trained.means()[0])


@dataclass(frozen=True)
class _Traced:
    """A solver whose updates commit to the states of their training."""

    solver: ReplayableSGD
    every: int

    def __call__(
        self,
        model: FlatModel,
        base: Float32Array,
        dataset: Dataset,
        rng: np.random.Generator,
        memory: Memory = BLANK,
        loss: Loss = cross_entropy,
    ) -> LocalUpdate:
        trajectory = Trajectory()
        watched = Watched(self.solver, Tracing(self.every, [trajectory.take]))
        return replace(watched(model, base, dataset, rng, memory, loss), trajectory=trajectory.root)
