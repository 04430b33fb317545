"""What a participant does off the ledger: from a round's context to its update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.metrics import HeldOut, evaluate
from fedledger.learning.objectives.base import Objective
from fedledger.learning.objectives.classification import CLASSIFICATION
from fedledger.learning.vectors import FlatModel, Float32Array, repeatable
from fedledger.node.solvers.base import BLANK, LocalUpdate, Memory, Solver, traced
from fedledger.node.transforms.base import Transform
from fedledger.protocol.arithmetic.random_streams import Restartable, derive_seed
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import START_LOSS


@dataclass(frozen=True)
class TrainingContext:
    """What a trainer may know of a round.

    Parameters
    ----------
    spec, index, owner
        The task's spec, the round, and whose update it is.
    base, before
        The model that is trained, and that of the round before, if there was one.
    memory
        What the solver may read besides.
    earlier
        Models of the rounds before, the nearest first; only attackers in experiments are shown any.
    """

    spec: TaskSpec
    index: int
    owner: str
    base: ModelFile
    before: ModelFile | None
    memory: Memory = BLANK
    earlier: Sequence[ModelFile] = ()


class Trainer(Protocol):
    """Makes a participant's update."""

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        """Return the update for a round; the same for the same context."""
        ...


@dataclass(frozen=True)
class LocalTrainer:
    """Trains on a participant's own data.

    Parameters
    ----------
    model
        The task's model; its parameters are overwritten.
    solver
        The local solver.
    dataset
        The participant's examples.
    transforms
        What is done to the update afterwards, in order.
    objective
        The task's, whose loss training minimises.
    """

    model: FlatModel
    solver: Solver
    dataset: Dataset
    transforms: tuple[Transform, ...] = ()
    objective: Objective = CLASSIFICATION

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        """Train for one round, so that the bytes repeat."""
        rng = _RANDOM.restart(training_seed(context.spec, context.index, context.owner))
        windows = context.spec.windows
        solver = self.solver if windows is None else traced(self.solver, windows.steps)
        with repeatable():
            told = self._told(context)
            update = solver(self.model, context.base.vector, self.dataset, rng, context.memory, self.objective.loss)
            if context.base.statistics:
                update = replace(update, statistics=self.model.vector()[context.base.dimension :])
        if told:
            update = replace(update, vectors={**update.vectors, **told})
        for transform in self.transforms:
            update = transform(update, rng)
        return update

    def _told(self, context: TrainingContext) -> dict[str, Float32Array]:
        """Return what an update tells of the model that it starts from, if the task wants that: its loss, in bounds."""
        if START_LOSS not in context.spec.vectors:
            return {}
        examples, bound = HeldOut(self.dataset.inputs, self.dataset.targets, self.objective), context.spec.fixed.bound
        loss = evaluate(self.model, [context.base.vector], examples)[0].loss
        # A loss that is not finite is as bad as one that is out of bounds.
        return {START_LOSS: np.array([min(max(loss, 0.0), bound) if math.isfinite(loss) else bound], np.float32)}


def training_seed(spec: TaskSpec, index: int, owner: str) -> bytes:
    """Return the seed of the randomness in a participant's training for a round."""
    return derive_seed(spec.digest, "train", index, owner)


_RANDOM = Restartable()
