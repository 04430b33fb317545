"""The backend to debug with: everything in this process, one participant after another."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from fedledger.learning.vectors import repeatable
from fedledger.node.solvers.base import LocalUpdate
from fedledger.platform.backends.base import BACKENDS, Job, Population, Total, Work, Worker
from fedledger.protocol.exact import WeightedSum


@BACKENDS.register("serial@1")
class Serial:
    """Trains in this process; an error keeps its traceback, which ends with round, participant and batch.

    Parameters
    ----------
    population
        The participants.
    workers
        Not more than one.
    """

    def __init__(self, population: Population, workers: int | None = None) -> None:
        self._worker = Worker(population)

    def __enter__(self) -> Serial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def train(self, work: Work) -> Iterator[tuple[Job, LocalUpdate]]:
        """Yield each job's update."""
        self._worker.begin(work.index, work.bases, work.before, work.server)
        for job in work.jobs:
            with repeatable():
                trained = self._worker.train(job)
            yield job, trained

    def total(self, work: Work) -> Total:
        """Return the exact sum of the jobs' updates."""
        self._worker.begin(work.index, work.bases, work.before, work.server)
        weights = sum(job.weight for job in work.jobs)
        total = Total(WeightedSum(self._worker.fixed, self._worker.dimension, weights))
        with repeatable():
            for job in work.jobs:
                total.done[job.number] = self._worker.add(job, total.sum)
        return total
