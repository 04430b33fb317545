"""Training in this process, one participant after another: to debug with."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import ClassVar

from fedledger.learning.vectors import repeatable
from fedledger.node.solvers.base import LocalUpdate
from fedledger.platform.engine.backends.base import BACKENDS, Job, Population, Total, Work, Worker
from fedledger.protocol.arithmetic.weighted_sum import WeightedSum


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

    batched: ClassVar[bool] = False

    def __init__(self, population: Population, workers: int | None = None) -> None:
        self._worker = Worker(population, self.batched)

    def __enter__(self) -> Serial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def train(self, work: Work) -> Iterator[tuple[Job, LocalUpdate]]:
        """Yield each job's update."""
        self._worker.begin(work.index, work.bases, work.before, work.server)
        updates = self._worker.train_all(work.jobs)
        while True:
            with repeatable():
                one = next(updates, None)
            if one is None:
                return
            yield one

    def total(self, work: Work) -> Total:
        """Return the exact sum of the jobs' updates."""
        self._worker.begin(work.index, work.bases, work.before, work.server)
        weights = sum(job.weight for job in work.jobs)
        total = Total(WeightedSum(self._worker.fixed, self._worker.dimension, weights))
        with repeatable():
            total.done = {done.number: done for done in self._worker.add_all(work.jobs, total.sum)}
        return total
