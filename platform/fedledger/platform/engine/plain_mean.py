"""Training with a plain mean and no ledger, for comparison: what attackers do to it, and what a ledger costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedledger.node.solvers.base import LocalUpdate
from fedledger.platform.engine.backends.base import Job, Work
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import Record, Round, play
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.codecs.payload import published_lengths, slots
from fedledger.protocol.records.update import DELTA, STATISTICS
from fedledger.protocol.records.verdicts import Verdict


class PlainMean(Record[Round]):
    """Rounds of all participants whose model is the mean of their updates, weighted by examples.

    It is computed in double precision in the order in which the updates come, so to repeat its bits takes a backend
    that trains one participant after another.

    Parameters
    ----------
    experiment
        The experiment; how its spec aggregates, selects and detects does not matter.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment, self._payload = experiment, slots(experiment.spec, experiment.initial.dimension)
        self._index, self._base, self._before = 1, experiment.initial, list[NDArray[np.float32]]()
        self._server = {
            name: np.zeros(length, np.float32)
            for name, length in published_lengths(experiment.spec, experiment.initial.dimension).items()
        }
        self._states: dict[int, Mapping[str, NDArray[np.float32]]] = {}

    def ask(self) -> Work:
        """Ask all participants."""
        self._began, self._examples = time.perf_counter(), 0
        self._total = {slot.name: np.zeros(slot.length, np.float64) for slot in self._payload}
        numbers = range(self._experiment.config.participants)
        jobs = [Job(number, own=self._states.get(number, {})) for number in numbers]
        bases = [self._base.vector, *self._before]
        return Work(self._index, bases, jobs, 1 if self._before else None, self._server)

    def keep(self, job: Job, trained: LocalUpdate) -> None:
        """Add an update."""
        self._states[job.number] = trained.state
        vectors = {**trained.vectors, DELTA: trained.delta, STATISTICS: trained.statistics}
        for name in self._total:
            self._total[name] += vectors[name].astype(np.float64) * trained.examples
        self._examples += trained.examples

    def close(self) -> Iterator[Round]:
        """Yield the round."""
        means = {name: vector / self._examples for name, vector in self._total.items()}
        self._server = {name: (vector + means[name]).astype(np.float32) for name, vector in self._server.items()}
        self._before = [self._base.vector, *self._before][: self._experiment.looks_back]
        trained = self._base.vector[: self._base.dimension] + means[DELTA]
        moved = [trained, means[STATISTICS]] if STATISTICS in means else [trained]
        self._base = self._base.moved(np.concatenate(moved).astype(np.float32))
        index, verdicts = self._index, dict.fromkeys(range(self._experiment.config.participants), Verdict.ACCEPTED)
        self._index, self.is_done = index + 1, index >= self._experiment.spec.rounds
        yield Round(index, self._base, verdicts, time.perf_counter() - self._began)


def mean_scores(config: ExperimentConfig, folder: Path) -> list[float]:
    """Return the test score after each round of the same training with a plain mean and no ledger.

    Both arguments are those of :func:`fedledger.platform.experiment.experiment.make_experiment`, so that another
    process can do this beside the run.
    """
    experiment = make_experiment(config, folder)
    with Serial(experiment) as backend:
        return [experiment.tested(done.model).score for done in play(PlainMean(experiment), backend)]
