"""What the aggregator carries from round to round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import LIMIT, IntArray, within
from fedledger.protocol.encoding import strict, tensors
from fedledger.protocol.errors import ContentUnreadableError
from fedledger.protocol.records.measurement import LOSS_CAP, Measurement
from fedledger.protocol.records.published_vectors import PREFIX
from fedledger.protocol.records.spec import TaskSpec

_PREVIOUS, _MEMORY, _COUNTS = "previous", "memory.", "counts"
_MOMENT = 1 << 62
"""Largest magnitude of what an optimiser keeps: what is computed with it is limited before it becomes an integer."""
MAX_ROUNDS = 1 << 16


class Moved(NamedTuple):
    """What a round that counts makes for the next one.

    The model's step int64[d], the server optimiser's vectors, what is published, and what methods keep, by name.
    """

    step: IntArray
    moments: Mapping[str, IntArray]
    published: Mapping[str, IntArray]
    memories: Mapping[str, IntArray]


@dataclass(frozen=True)
class State:
    """What the aggregator carries from round to round.

    Parameters
    ----------
    previous
        The last step, int64[d].
    moments
        The server optimiser's vectors.
    best_loss, stale
        The lowest held-out loss so far, -1 before the first, and the rounds since.
    published
        What solvers are told besides the model, int64[d] by name.
    memories
        What methods keep, int64 arrays by name: see :mod:`fedledger.aggregator.round.memory`.
    """

    previous: IntArray
    moments: dict[str, IntArray] = field(default_factory=dict)
    best_loss: int = -1
    stale: int = 0
    published: dict[str, IntArray] = field(default_factory=dict)
    memories: dict[str, IntArray] = field(default_factory=dict)

    @classmethod
    def decode(cls, data: bytes, dimension: int) -> State:
        """Read a state; no bytes are that before the first round.

        Whether its vectors are those of the task's methods is for these to say.

        Raises
        ------
        ContentUnreadableError
            If the bytes are no state of a model with so many coordinates.
        """
        if not data:
            return cls(np.zeros(dimension, np.int64))
        try:
            return cls._read(data, dimension)
        except (ValueError, KeyError) as error:
            raise ContentUnreadableError(
                f"The aggregator's state cannot be read: {error}.", "Challenge the proposal."
            ) from error

    @classmethod
    def _read(cls, data: bytes, dimension: int) -> State:
        named = {name: _whole(name, tensor) for name, tensor in tensors.decode(data).items()}
        counts, previous = named.pop(_COUNTS), named.pop(_PREVIOUS)
        if counts.shape != (2,) or previous.shape != (dimension,) or not within(previous, LIMIT):
            raise ValueError("the last step or the counts are of another shape or out of bounds")
        best, stale = counts.tolist()
        if not (-1 <= best <= LOSS_CAP and 0 <= stale < MAX_ROUNDS):
            raise ValueError("the counts are out of bounds")
        published, memories = _taken(named, PREFIX), _taken(named, _MEMORY)
        if not all(within(vector, LIMIT) for vector in published.values()):
            raise ValueError("a published vector is out of bounds")
        if not all(vector.shape == (dimension,) and within(vector, _MOMENT) for vector in named.values()):
            raise ValueError("a vector of the optimiser is of another shape or out of bounds")
        return cls(previous, named, best, stale, published, memories)

    def encode(self) -> bytes:
        """Return the bytes that a proposal names."""
        counts = np.array([self.best_loss, self.stale], np.int64)
        published = {PREFIX + name: vector for name, vector in self.published.items()}
        memories = {_MEMORY + name: kept for name, kept in self.memories.items()}
        return tensors.encode({**self.moments, **published, **memories, _PREVIOUS: self.previous, _COUNTS: counts})

    def after(self, moved: Moved, measured: Measurement, spec: TaskSpec) -> tuple[State, bool]:
        """Return the next round's state, and whether the task stops by its rule.

        Parameters
        ----------
        moved
            What the round made.
        measured
            The new model's measurement.
        spec
            The task's spec.
        """
        better = self.best_loss < 0 or measured.loss < self.best_loss
        best, stale = (measured.loss, 0) if better else (self.best_loss, self.stale + 1)
        rule = spec.stopping
        target = None if rule.target is None else Measurement(0, rule.target)
        stop = target is not None and not target.scores_above(measured, spec.lower_is_better)
        stop = stop or (rule.patience is not None and stale >= rule.patience)
        return State(moved.step, dict(moved.moments), best, stale, dict(moved.published), dict(moved.memories)), stop


def _whole(name: str, tensor: NDArray[np.generic]) -> IntArray:
    if tensor.dtype != np.int64:
        raise ValueError(f"{strict.shown(name)} is {tensor.dtype}, not int64")
    return tensor.astype(np.int64)


def _taken(named: dict[str, IntArray], prefix: str) -> dict[str, IntArray]:
    """Take the arrays whose names begin with a prefix, and return them without it."""
    return {name[len(prefix) :]: named.pop(name) for name in list(named) if name.startswith(prefix)}
