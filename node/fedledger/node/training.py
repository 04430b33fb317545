"""What a participant does off the ledger: from a round's context to its update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.vectors import FlatModel, single_thread
from fedledger.node.solver import Solver
from fedledger.protocol.model import ModelFile
from fedledger.protocol.spec import TaskSpec
from fedledger.protocol.streams import generator


@dataclass(frozen=True, eq=False)
class Memory:
    """What a solver may read besides base model and data: what the participant kept, what the aggregator publishes."""

    own: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    server: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundContext:
    """What a trainer may know of a round: index, owner, base model, base of the round before, if any, and memory."""

    spec: TaskSpec
    index: int
    owner: str
    base: ModelFile
    before: ModelFile | None
    memory: Memory = Memory()


@dataclass(frozen=True)
class Trained:
    """What a trainer sends: float32[d] delta to the base, number of examples, number of local steps."""

    delta: NDArray[np.float32]
    examples: int
    steps: int


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
        """Train for one round, on one thread so that the bytes repeat."""
        rng = generator(context.spec.digest, "train", context.index, context.owner)
        with single_thread():
            update = self.solver(self.model, context.base.vector, self.dataset, rng)
        return Trained(update.delta, update.examples, update.steps)
