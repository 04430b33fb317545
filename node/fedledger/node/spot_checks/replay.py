"""The training of an update that is checked, made again: by its participant, and by the auditor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.replayable.descent import Trained, descend
from fedledger.learning.replayable.trajectory import State, Tracing
from fedledger.learning.vectors import repeatable
from fedledger.node.compression import CompressingTrainer
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.solvers.replayable_sgd import ReplayableSGD, Watched
from fedledger.node.training import LocalTrainer, Trainer, TrainingContext, training_seed
from fedledger.protocol.arithmetic.random_streams import Restartable
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.spot_checks import Check, Windows

IN_BETWEEN = 16
"""States of a replay, at least, that its transcript is over, where it takes so many steps."""
_TRANSCRIPT = b"fedledger transcript\0"


class Transcript:
    """A digest that only who replayed can know: of the states in between, salted by what the opening alone tells.

    Parameters
    ----------
    check
        What is checked, and by whom.
    secret
        The salts of the opening.
    """

    def __init__(self, check: Check, secret: bytes) -> None:
        info = check.info
        parts = (len(part).to_bytes(8, "big") + part for part in (info, secret))
        self._digest = hashlib.sha256(_TRANSCRIPT + b"".join(parts))

    def take(self, state: State) -> None:
        """Take the next state."""
        self._digest.update(state.digest + state.data)

    def digest(self) -> bytes:
        """Return 32 bytes."""
        return self._digest.digest()


def local_part(trainer: Trainer) -> tuple[LocalTrainer, ReplayableSGD]:
    """Return what trains, and how, without what encodes an update; raises ConfigError if that cannot be replayed."""
    local = trainer.trainer if isinstance(trainer, CompressingTrainer) else trainer
    if not isinstance(local, LocalTrainer) or not isinstance(local.solver, ReplayableSGD):
        raise ConfigError(
            "The training of this participant cannot be replayed.", "Train with the solver that the spec names."
        )
    return local, local.solver


def finished(trainer: Trainer, replayed: Trainer, context: TrainingContext) -> LocalUpdate:
    """Return the update that one trainer makes, encoded as that of another is."""
    return (CompressingTrainer(replayed) if isinstance(trainer, CompressingTrainer) else replayed)(context)


def replay_all(check: Check, trainer: Trainer, context: TrainingContext, secret: bytes) -> tuple[LocalUpdate, bytes]:
    """Make a whole update again.

    Parameters
    ----------
    check, secret
        See :class:`Transcript`.
    trainer, context
        The participant's, with its examples, and what its update follows from.

    Returns
    -------
    tuple
        The update and the transcript.

    Raises
    ------
    ConfigError
        If the training cannot be replayed.
    """
    local, solver = local_part(trainer)
    transcript = Transcript(check, secret)
    every = apart(solver.steps(len(local.dataset)))
    watched = replace(local, solver=Watched(solver, Tracing(every, [transcript.take])))
    return finished(trainer, watched, context), transcript.digest()


def apart(steps: int) -> int:
    """Return after how many steps of so many a transcript takes a state."""
    return max(1, steps // IN_BETWEEN)


@dataclass(frozen=True)
class Drawn:
    """Which windows of an update's training are replayed.

    Parameters
    ----------
    windows
        The spec's.
    steps
        How many the training takes.
    chosen
        The windows, ascending.
    places
        Of the examples that they take, int64, ascending.
    orders
        The examples of each step of each window, by their place among those.
    stream
        The participant's random stream, where training leaves it.
    """

    windows: Windows
    steps: int
    chosen: Sequence[int]
    places: NDArray[np.int64]
    orders: Mapping[int, Sequence[NDArray[np.int64]]]
    stream: np.random.Generator

    @classmethod
    def of(cls, check: Check, solver: ReplayableSGD, context: TrainingContext, count: int, windows: Windows) -> Drawn:
        """Return what is drawn of a training on so many examples."""
        steps = solver.steps(count)
        chosen = check.windows(windows.count(steps), windows.drawn)
        taken: dict[int, list[NDArray[np.int64]]] = {window: [] for window in chosen}
        rng = Restartable().restart(training_seed(context.spec, context.index, context.owner))
        for step, order in enumerate(solver.orders(count, rng)):
            if (window := step // windows.steps) in taken:
                taken[window].append(order)
        places = np.unique(np.concatenate([order for orders in taken.values() for order in orders]))
        orders = {
            window: [np.asarray(np.searchsorted(places, order), np.int64) for order in found]
            for window, found in taken.items()
        }
        return cls(windows, steps, chosen, places, orders, rng)

    @property
    def last(self) -> int:
        """Place of the last state."""
        return self.windows.count(self.steps)

    @cached_property
    def known(self) -> list[int]:
        """Places of the states whose hashes are compared, ascending."""
        return sorted({0, self.last, *self.chosen, *(window + 1 for window in self.chosen)})

    @cached_property
    def shown(self) -> list[int]:
        """Places of the states that a participant shows: those that no replay gives, ascending."""
        return sorted({*self.chosen, self.last} - {0, *(window + 1 for window in self.chosen)})

    def steps_at(self, place: int) -> int:
        """Return how many steps were taken at the state in a place."""
        return min(place * self.windows.steps, self.steps)


class WindowReplay:
    """Makes windows of an update's training again.

    Parameters
    ----------
    trainer
        The participant's, whose examples are those that the windows take.
    context
        What its update follows from.
    drawn
        Which windows.
    """

    def __init__(self, trainer: Trainer, context: TrainingContext, drawn: Drawn) -> None:
        self._trainer, self._context, self._drawn = trainer, context, drawn
        self._local, self._solver = local_part(trainer)

    def begun(self) -> State | None:
        """Return the first state, before any step; None if the base is beyond all bounds."""
        found: list[State] = []
        self._train([], None, found.append)
        return found[0] if found else None

    def states(self, given: Mapping[int, State], transcript: Transcript) -> dict[int, State]:
        """Return the states that are given and those that follow, by their places; one misses if training diverges.

        Where a state is both, it is the one that follows.
        """
        drawn, found = self._drawn, dict(given)
        for window in drawn.chosen:
            start, passed = found.get(window), list[State]()
            if start is None:
                break
            self._train(drawn.orders[window], start, passed.append)
            for state in passed[1:]:
                transcript.take(state)
            if passed and passed[-1].steps == drawn.steps_at(window + 1):
                found[window + 1] = passed[-1]
        return found

    def update(self, last: State) -> LocalUpdate:
        """Return the update, encoded, of a training that ends with a state."""
        local, drawn = self._local, self._drawn
        trained = self._train([], last, lambda state: None)
        update = LocalUpdate(trained.deltas[0], 0, drawn.steps)
        for transform in local.transforms:
            update = transform(update, drawn.stream)
        return finished(self._trainer, lambda context: update, self._context)

    def _train(
        self, orders: Sequence[NDArray[np.int64]], start: State | None, shown: Callable[[State], object]
    ) -> Trained:
        local = self._local
        tracing = Tracing(apart(len(orders)), [shown], start)
        base, loss = self._context.base.vector, local.objective.loss
        with repeatable():
            return descend(local.model, base, [local.dataset], [orders], self._solver.rates, loss, tracing)
