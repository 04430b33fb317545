"""The states that replayable training goes through: what it can go on from, and what an update commits to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.vectors import Float32Array
from fedledger.protocol.encoding.ordered_merkle import OrderedTree, top_of

_STATE, _ROOT = b"\x00fedledger training state\0", b"fedledger trajectory\0"


@dataclass(frozen=True, eq=False)
class State:
    """Where training is after some steps; the base, the examples and their order say how it goes on.

    Parameters
    ----------
    steps
        How many were taken.
    weights
        float32[d], packed.
    velocity
        float32[d] or float64[d], as the network computes; without momentum there is none, and its length is 0.
    """

    steps: int
    weights: Float32Array
    velocity: NDArray[np.floating]

    @property
    def parts(self) -> Iterator[memoryview]:
        """Weights and velocity, little endian and one number after the other, as they are hashed."""
        for part in (self.weights, self.velocity):
            yield np.ascontiguousarray(part, part.dtype.newbyteorder("<")).data

    @cached_property
    def digest(self) -> bytes:
        """The hash that stands for the state in a trajectory, 32 bytes."""
        found = hashlib.sha256(_STATE + self.steps.to_bytes(8, "big"))
        for part in self.parts:
            found.update(part)
        return found.digest()


@dataclass(frozen=True)
class Tracing:
    """What looks on while several participants are trained, and where they begin.

    Parameters
    ----------
    every
        Steps after which states are shown; those at the beginning and the end are, too.
    shown
        Take the states of each participant.
    start
        Where the training of one alone goes on; None: it begins with the base.
    """

    every: int
    shown: Sequence[Callable[[State], object]]
    start: State | None = None


@dataclass
class Trajectory:
    """The states of one participant's training.

    Parameters
    ----------
    kept
        Which of them are kept whole, by their places; the others by their hashes.

    Attributes
    ----------
    digests
        The hash of each.
    states
        Those that are kept whole, by their places.
    """

    kept: Collection[int] = ()
    digests: list[bytes] = field(default_factory=list)
    states: dict[int, State] = field(default_factory=dict)

    def take(self, state: State) -> None:
        """Take the next state."""
        if len(self.digests) in self.kept:
            self.states[len(self.digests)] = state
        self.digests.append(state.digest)

    @property
    def root(self) -> bytes:
        """What an update commits to, 32 bytes; zeros if there are no states, as where a base model is no number."""
        if not self.digests:
            return bytes(32)
        return _root(OrderedTree(self.digests).top, len(self.digests))

    def siblings(self, places: Collection[int]) -> list[bytes]:
        """Return what, beside the states at some places, shows that they are in this trajectory; 32 bytes each."""
        return OrderedTree(self.digests).siblings(places)


def has_states(root: bytes, count: int, digests: dict[int, bytes], siblings: Sequence[bytes]) -> bool:
    """Return whether a trajectory of ``count`` states has some of them.

    Parameters
    ----------
    root
        What an update commits to.
    count
        How many states its training has.
    digests
        Hashes of states, by their places.
    siblings
        What :meth:`Trajectory.siblings` gave for these places.
    """
    top = top_of(digests, siblings, count)
    return top is not None and _root(top, count) == root


def _root(top: bytes, count: int) -> bytes:
    return hashlib.sha256(_ROOT + count.to_bytes(8, "big") + top).digest()
