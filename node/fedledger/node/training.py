"""What a participant does off the ledger: from a round's context to its update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.vectors import FlatModel, repeatable
from fedledger.node.solvers.base import BLANK, Memory, Solver
from fedledger.protocol.model import ModelFile
from fedledger.protocol.spec import TaskSpec
from fedledger.protocol.streams import generator


@dataclass(frozen=True)
class RoundContext:
    """What a trainer may know of a round: index, owner, base model, base of the round before, if any, and memory."""

    spec: TaskSpec
    index: int
    owner: str
    base: ModelFile
    before: ModelFile | None
    memory: Memory = BLANK


@dataclass(frozen=True)
class Trained:
    """What a trainer sends: float32[d] delta to the base, number of examples, number of local steps.

    Besides, float32[d] ``vectors`` by name, which are sent with the delta, and ``state``, which stays until the next
    round.
    """

    delta: NDArray[np.float32]
    examples: int
    steps: int
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    state: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class Trainer(Protocol):
    """Makes a participant's update."""

    def __call__(self, context: RoundContext) -> Trained:
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
    """

    model: FlatModel
    solver: Solver
    dataset: Dataset

    def __call__(self, context: RoundContext) -> Trained:
        """Train for one round, so that the bytes repeat."""
        rng = generator(context.spec.digest, "train", context.index, context.owner)
        with repeatable():
            made = self.solver(self.model, context.base.vector, self.dataset, rng, context.memory)
        return Trained(made.delta, made.examples, made.steps, made.vectors, made.state)
