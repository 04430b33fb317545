"""Training on a Ray cluster, an existing one or one that starts with the run: beyond one machine."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.node.solvers.base import LocalUpdate
from fedledger.platform.engine.backends.base import BACKENDS, Done, Job, Population, Total, TrainingError, Work, Worker
from fedledger.protocol.arithmetic.weighted_sum import WeightedSum
from fedledger.protocol.errors import ConfigError

CHUNKS = 4
"""Parts that a worker's share is cut into, so that the last one to end is not far behind."""
CUBLAS = ":4096:8"
"""The workspace with which matrix products on a GPU repeat."""


class _Trainer:
    """Lives in a process of the cluster. What it is asked has no effect on it, so it may be asked again elsewhere.

    Where Ray gives it a share of a GPU, its model lies there, and its kernels are those that repeat.
    """

    def __init__(self, population: Population, has_gpu: bool) -> None:
        import torch

        torch.set_num_threads(1)
        if has_gpu:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS)
            torch.use_deterministic_algorithms(True)
            population = population.on("cuda")
        self._worker = Worker(population)

    def process(self) -> int:
        return os.getpid()

    def train(self, work: Work, job: Job) -> LocalUpdate:
        self._begin(work)
        return self._worker.train(job)

    def total(self, work: Work, jobs: Sequence[Job], weights: int) -> tuple[NDArray[np.int64], int, list[Done]]:
        self._begin(work)
        total = WeightedSum(self._worker.fixed, self._worker.dimension, weights)
        done = self._worker.add_all(jobs, total)
        return total.limbs, total.weight, done

    def _begin(self, work: Work) -> None:
        self._worker.begin(work.index, work.bases, work.before, work.server)


@BACKENDS.register("ray@1")
class Cluster:
    """Trains in the processes of a Ray cluster: the one that ``RAY_ADDRESS`` names, or a local one.

    If the cluster has GPUs, its processes share them. A final model is then repeatable on the same kind of device, and
    not that of a run on processors.

    A process or machine that dies is replaced by Ray, and what it had to do is done again.

    Parameters
    ----------
    population
        The participants; copied to each process once.
    workers
        Number of processes; one for each GPU of the cluster, or else for each processor, unless given.

    Raises
    ------
    ConfigError
        If Ray is not installed.
    """

    def __init__(self, population: Population, workers: int | None = None) -> None:
        try:
            # By name: Ray is optional, and has no types where it is not installed.
            self._ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise ConfigError("The backend ray@1 needs Ray.", "Install it: pip install 'fedledger[ray]'.") from error
        self._own = not self._ray.is_initialized()
        if self._own:
            local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
            self._ray.init(log_to_driver=False, configure_logging=False, **local)
        self._worker = Worker(population)
        resources = self._ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        count = workers or gpus or int(resources.get("CPU", 1))
        # Held, as a process that is started again asks for it again.
        self._given = self._ray.put(population)
        share = min(1.0, gpus / count)
        remote = self._ray.remote(num_cpus=1, num_gpus=share, max_restarts=-1, max_task_retries=3)(_Trainer)
        self._trainers = [remote.remote(self._given, share > 0) for _ in range(count)]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for trainer in self._trainers:
            self._ray.kill(trainer)
        if self._own:
            self._ray.shutdown()

    @property
    def processes(self) -> list[int]:
        """Ids of the processes, each on its machine."""
        return list(self._ray.get([trainer.process.remote() for trainer in self._trainers]))

    def train(self, work: Work) -> Iterator[tuple[Job, LocalUpdate]]:
        """Yield each job's update as soon as it is there, in any order."""
        given = self._ray.put(replace(work, jobs=()))
        asked = [(job, lambda trainer, job=job: trainer.train.remote(given, job)) for job in work.jobs]
        yield from self._answers(work, asked)

    def total(self, work: Work) -> Total:
        """Return the exact sum of the jobs' updates."""
        weights = sum(job.weight for job in work.jobs)
        total = Total(WeightedSum(self._worker.fixed, self._worker.dimension, weights))
        given = self._ray.put(replace(work, jobs=()))
        parts = min(len(work.jobs), CHUNKS * len(self._trainers))
        shares = [work.jobs[part::parts] for part in range(parts)]
        asked = [(share, lambda trainer, share=share: trainer.total.remote(given, share, weights)) for share in shares]
        for _, (limbs, weight, done) in self._answers(work, asked):
            total.sum.merge(limbs, weight)
            total.done |= {one.number: one for one in done}
        return total

    def _answers(self, work: Work, asked: Sequence[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """Ask each question of the next trainer that is free, and yield what was asked about with the answer."""
        left, free = list(reversed(asked)), list(self._trainers)
        waiting: dict[Any, tuple[Any, Any]] = {}
        while left or waiting:
            while left and free:
                about, question = left.pop()
                trainer = free.pop()
                waiting[question(trainer)] = about, trainer
            ready, _ = self._ray.wait(list(waiting))
            for answer in ready:
                about, trainer = waiting.pop(answer)
                free.append(trainer)
                try:
                    yield about, self._ray.get(answer)
                except self._ray.exceptions.RayTaskError as error:
                    raise TrainingError(
                        f"Round {work.index}: {error.cause}.", "Run again with --backend serial for the traceback."
                    ) from error
