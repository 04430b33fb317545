"""What a method of a round may know: one context for rules, detectors and contribution scores.

A method that needs to know something else adds a field here; no signature changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.round_features import RoundFeatures
from fedledger.aggregator.context.work_seen import WorkSeen
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.measurement import Measurement


def _no_draws() -> Stream:
    raise RoundError("This round has no random stream.", "Evaluate it as a round of a task.")


@dataclass(frozen=True)
class StageContext:
    """What is known when a round's valid updates are evaluated; rows are in the order of their owners' addresses.

    Parameters
    ----------
    features
        Measurements, reputations, and exact inner products.
    owners, examples
        Who made each update, and the number of examples that counts.
    updates
        The updates in fixed point, int64[n, d], normalised and damped; they are not to be changed.
    previous
        The model's last step, int64[d].
    round
        The round's index.
    unit
        The integer that stands for a coordinate of 1.
    trusted
        The update that the aggregator trusts, int64[d], if the rule asks for one.
    draws
        Makes the method's own random stream of this round; anyone can draw from it again.
    memory
        What the method kept of the last round that counted, int64 arrays by name: see :class:`Remembering`.
    doubt
        Differences of what is measured up to this may be none on another machine, in millionths.
    accepted
        Which updates judge the others, bool[n]: those that nobody has refused so far; all of them unless given.
    work
        What the task's evidence says of everybody's work, if the task names a method for that.
    start_losses
        The loss of the model that each update starts from on its sender's examples, as it claims, in fixed point; empty
        if the task's updates do not tell it.
    coalitions
        What was measured of the coalitions that the task's contribution score asks for, by the places of their members.
    """

    features: RoundFeatures
    owners: Sequence[str] = ()
    examples: Sequence[int] = ()
    updates: IntArray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    previous: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    round: int = 0
    unit: int = 1
    trusted: IntArray | None = None
    draws: Callable[[], Stream] = _no_draws
    memory: Mapping[str, IntArray] = field(default_factory=dict)
    doubt: int = 0
    accepted: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    work: WorkSeen | None = None
    start_losses: Sequence[int] = ()
    coalitions: Mapping[tuple[int, ...], Measurement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.accepted):
            object.__setattr__(self, "accepted", np.ones(self.count, np.bool_))

    @property
    def count(self) -> int:
        """Number of updates n."""
        return self.features.count


@runtime_checkable
class Remembering(Protocol):
    """A method that keeps something from round to round, in the state that each proposal names."""

    def memory_size(self, participants: int, dimension: int) -> int:
        """Return how many integers it keeps at most, for so many participants and coordinates."""
        ...

    def remember(self, context: StageContext, weights: Sequence[int]) -> Mapping[str, IntArray]:
        """Return what it keeps, int64 arrays by name, after a round that counts; weights are those of the aggregate."""
        ...
