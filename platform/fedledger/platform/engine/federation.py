"""The round loop: a record says whom a round asks and on which models, a backend trains, the record closes the round.

With a ledger, without one and for the comparison with a plain mean it is the same loop; they differ in the record.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from fedledger.node.solvers.base import LocalUpdate
from fedledger.platform.engine.backends.base import Backend, Job, Total, Work
from fedledger.platform.engine.background import Background
from fedledger.protocol.errors import RoundError
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.schedules.events import ServerStep

MAX_VOIDS = 3
"""Rounds below quorum in a row after which a run ends with an error."""


@dataclass(frozen=True)
class Round:
    """A round that is closed.

    Parameters
    ----------
    index
        Its number, from 1.
    model
        The global model after it.
    verdicts
        By participant number.
    seconds
        How long it took.
    empty
        Whether it was below quorum or voided, and so left the model as it was.
    step
        The server step of the task's schedule, if the record plays one.
    details
        What is said of refused updates besides their verdicts, by participant number; of rounds in which none counted.
    shares
        The credit units that each participant earned, by number, where a run without a ledger judges its rounds.
    weights
        What each update weighed in the aggregate, by participant number; likewise.
    bidding
        Whether it asked for bids, and left the model as it was.
    """

    index: int
    model: ModelFile
    verdicts: Mapping[int, Verdict]
    seconds: float
    empty: bool = False
    step: ServerStep | None = None
    details: Mapping[int, str] = field(default_factory=dict)
    shares: Mapping[int, int] = field(default_factory=dict)
    weights: Mapping[int, int] = field(default_factory=dict)
    bidding: bool = False

    @property
    def counts(self) -> bool:
        """Whether it is one of the task's rounds: neither empty nor for bids."""
        return not (self.empty or self.bidding)

    @property
    def accepted(self) -> int:
        """How many updates were accepted."""
        return sum(verdict is Verdict.ACCEPTED for verdict in self.verdicts.values())

    @property
    def refused(self) -> int:
        """How many of the participants that were asked have no accepted update."""
        return len(self.verdicts) - self.accepted


RoundT = TypeVar("RoundT", bound=Round)


class Record(ABC, Generic[RoundT]):
    """Keeps the rounds of one task: in a ledger, or in memory.

    Attributes
    ----------
    sums
        Whether a round needs no more of its updates than their weighted sum.
    is_done
        Whether no round is left.
    """

    sums: bool = False
    is_done: bool = False

    @abstractmethod
    def ask(self) -> Work | None:
        """Return the training that is due: whom the current round asks, on which models. None: nothing is due now.

        Raises
        ------
        RoundError
            If several rounds in a row had too few updates.
        """

    def add(self, total: Total) -> None:
        """Take the sum of the updates; called instead of `keep` if the record ``sums``."""
        raise NotImplementedError

    @abstractmethod
    def keep(self, job: Job, trained: LocalUpdate) -> None:
        """Take one update; updates come in any order."""

    def look(self, job: Job) -> None:
        """Prepare for closing the round while others train, given an update that was kept; may be left out."""

    def deliver(self) -> None:
        """Go on now that all updates are kept; the last of them may still be looked at."""

    @abstractmethod
    def close(self) -> Iterator[RoundT]:
        """Do all that comes before the next training, and yield each round that is closed by then."""


def play(record: Record[RoundT], backend: Backend) -> Iterator[RoundT]:
    """Play the rounds that a record has left, and yield each when it is closed.

    What follows a participant's training is done while the next one trains.

    Raises
    ------
    RoundError
        If several rounds in a row had too few updates.
    """
    while not record.is_done:
        work = record.ask()
        if work is not None and record.sums:
            record.add(backend.total(work))
        else:
            with Background() as background:
                for job, trained in () if work is None else backend.train(work):
                    background(partial(record.keep, job, trained), partial(record.look, job))
                background.wait()
                record.deliver()
        yield from record.close()


def require_quorum(voids: int, quorum: int, remedy: str) -> None:
    """Raise RoundError if so many rounds in a row were below quorum that a run ends."""
    if voids >= MAX_VOIDS:
        raise RoundError(f"{voids} rounds in a row were below the quorum of {quorum}.", remedy)
