"""What a local solver is: the round's base model and a participant's data in, its update out."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import Loss
from fedledger.learning.schemas.fit import Misfit
from fedledger.learning.vectors import FlatModel, Float32Array, repeatable
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry
from fedledger.protocol.records.update import DELTA, STATISTICS


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
        Mean loss over the examples of all steps, each before its step, in the objective's unit. NaN without training.
    vectors
        Further float32 vectors that are sent with the delta, by the names that the solver ``sends``.
    state
        float32 vectors that the participant keeps once the update counts.
    coded
        The tensors that stand for delta and vectors, by name, if the task's payload describes any.
    statistics
        float32[s]: the values of the trained model's statistics.
    trajectory
        32 bytes that commit to the states of training, where the task wants it; see :func:`traced`.
    """

    delta: Float32Array
    examples: int
    steps: int
    loss: float = math.nan
    vectors: Mapping[str, Float32Array] = field(default_factory=dict)
    state: Mapping[str, Float32Array] = field(default_factory=dict)
    coded: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    statistics: Float32Array = field(default_factory=lambda: np.zeros(0, np.float32))
    trajectory: bytes = b""

    @property
    def sent(self) -> Mapping[str, NDArray[np.generic]]:
        """The tensors that travel, by name."""
        tensors = self.coded or {**self.vectors, DELTA: self.delta}
        return {**tensors, STATISTICS: self.statistics} if len(self.statistics) else tensors


@dataclass(frozen=True, eq=False)
class Memory:
    """What a solver may read besides the base model and the data.

    Attributes
    ----------
    own
        ``LocalUpdate.state`` of the participant's last update that counted; empty at first.
    server
        float32 vectors that the aggregator publishes; empty at first.
    """

    own: Mapping[str, Float32Array] = field(default_factory=dict)
    server: Mapping[str, Float32Array] = field(default_factory=dict)


BLANK = Memory()
"""The memory of a first round."""

Solver: TypeAlias = Callable[[FlatModel, Float32Array, Dataset, np.random.Generator, Memory, Loss], LocalUpdate]
"""From the task's model, the round's base, the data, a random stream, the memory and the loss to the update."""

SOLVERS: Registry[Callable[..., Solver]] = Registry(kind_of("solver"))


def require_suited(solver: Solver, model: FlatModel, dataset: Dataset, sizes: Iterable[int], loss: Loss) -> None:
    """Check that a solver can train a model, by its ``require_suited``, if it has one.

    Parameters
    ----------
    solver, model, loss
        The task's.
    dataset
        Any examples, n ≥ 1.
    sizes
        How many examples each participant has.

    Raises
    ------
    ConfigError
        If it cannot.
    """
    check: Callable[[FlatModel, Dataset, Iterable[int], Loss], None] | None = getattr(solver, "require_suited", None)
    if check is not None:
        with repeatable():
            check(model, dataset, sizes, loss)


def cautions_of(solver: Solver, dataset: Dataset) -> list[Misfit]:
    """Return what whoever trains on a data set should know, by the solver's ``cautions``, if it has any."""
    cautions: Callable[[Dataset], list[Misfit]] | None = getattr(solver, "cautions", None)
    return [] if cautions is None else cautions(dataset)


def traced(solver: Solver, every: int) -> Solver:
    """Return a solver whose updates commit to the states of their training, after every so many steps.

    Raises
    ------
    ConfigError
        If this one's cannot: it has no ``traced``.
    """
    make: Callable[[int], Solver] | None = getattr(solver, "traced", None)
    if make is None:
        raise ConfigError(
            f"{type(solver).__name__} does not say which states its training goes through.",
            "Train with a solver that is replayable, or check updates without windows.",
        )
    return make(every)


def computed_by(solver: Solver, examples: int) -> int:
    """Return over how many examples a solver computes in a round, of so many that a participant has.

    What its ``computed`` says; a solver without one is taken to see each example once.
    """
    computed: Callable[[int], int] | None = getattr(solver, "computed", None)
    return examples if computed is None else computed(examples)


def sent_by(solver: Solver) -> dict[str, int | None]:
    """Return the vectors that a solver sends besides its delta, by name: their lengths, None for the model's.

    They are its ``sends``, if it has any: names, or lengths by name.
    """
    sends: Collection[str] | Mapping[str, int | None] = getattr(solver, "sends", ())
    return dict(sorted((sends if isinstance(sends, Mapping) else dict.fromkeys(sends)).items()))
