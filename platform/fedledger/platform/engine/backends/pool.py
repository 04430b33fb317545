"""The fast backend on one machine: persistent worker processes of one thread each, and flat vectors that all share.

Where a round is short, the main process trains a share of it, as it would wait no shorter for one worker than for two;
where it is very short, all of it.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import logging
import os
import selectors
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch

from fedledger.learning.vectors import repeatable
from fedledger.learning.worker import become_worker
from fedledger.node.solvers.base import LocalUpdate
from fedledger.platform.engine.backends.base import BACKENDS, Done, Job, Population, Total, TrainingError, Work, Worker
from fedledger.platform.engine.backends.shared_vectors import MAX_BASES, SharedVectors
from fedledger.protocol.arithmetic.weighted_sum import WeightedSum
from fedledger.protocol.codecs.payload import published_lengths
from fedledger.protocol.errors import FedledgerError
from fedledger.storage.machine import processors

log = logging.getLogger(__name__)

QUANTUM = 0.002
"""Seconds of work in one message: so much that messages cost little, so little that nobody waits for the last one."""
AHEAD = 2
"""Messages that a worker has at once, so that it need not wait for the next one."""
MAX_DEATHS = 3


class _Message(NamedTuple):
    """What a worker is to do.

    Parameters
    ----------
    work
        Number of the work that it belongs to; a new one begins a new sum.
    round, bases, before
        The round, how many base models it has, and which of them is that of the round before.
    server
        Names and lengths of the vectors that the aggregator publishes.
    jobs
        Who is to be trained.
    limbs
        How many the sum has; 0 if the updates themselves are wanted.
    weights
        Sum of the weights of all jobs of the work.
    last
        Whether the sum is asked for after these jobs.
    """

    work: int
    round: int
    bases: int
    before: int | None
    server: Sequence[tuple[str, int]]
    jobs: Sequence[Job]
    limbs: int = 0
    weights: int = 0
    last: bool = False

    @property
    def plain(self) -> tuple[Any, ...]:
        """The message without names, which crosses a pipe in a fraction of the time."""
        return (*self[:_JOBS], [tuple(job) for job in self.jobs], *self[_JOBS + 1 :])

    @classmethod
    def named(cls, plain: tuple[Any, ...]) -> _Message:
        """Return the message that was sent as a plain one."""
        message = cls._make(plain)
        return message._replace(jobs=[Job._make(job) for job in message.jobs])


_JOBS = _Message._fields.index("jobs")


class _WorkerError(NamedTuple):
    """What a worker answers where training failed."""

    error: FedledgerError
    trace: str


@dataclass
class _Process:
    """A worker process, as the main process sees it: the messages it has not answered, and the jobs in its sum."""

    place: int
    process: BaseProcess
    pipe: Connection
    waiting: deque[_Message] = field(default_factory=deque)
    summed: list[Job] = field(default_factory=list)
    asked: bool = False


@BACKENDS.register("pool@1")
class Pool:
    """Trains in worker processes; a dead one is replaced, and its undelivered work is repeated.

    Parameters
    ----------
    population
        The participants.
    workers
        Number of processes; one for each processor that this program may use unless given.
    method
        How processes are started: ``fork`` or ``spawn``; the first on Linux unless given.
    """

    def __init__(self, population: Population, workers: int | None = None, method: str | None = None) -> None:
        self._population = population
        self._worker = Worker(population)
        self._context: Any = get_context(method or ("fork" if sys.platform == "linux" else "spawn"))
        # Threads that torch has started do not live on in a forked process.
        torch.set_num_threads(1)
        count = workers or processors()
        lengths = published_lengths(self._worker.spec, self._worker.dimension).values()
        self._vectors = SharedVectors.make(count, population.initial, max(lengths, default=0))
        self._bases, self._server = self._vectors.bases, self._vectors.server
        self._sums = [self._vectors.limbs(place) for place in range(count)]
        self._costs: dict[int, float] = {}
        self._rate = 0.0
        self._own: Sequence[Job] = ()
        self._works = 0
        self._selector = selectors.DefaultSelector()
        self._processes: list[_Process] = []
        # A collection here would write to pages that the workers share.
        gc.freeze()
        for place in range(count):
            self._processes.append(self._start(place))

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._processes:
            each.pipe.close()
        for each in self._processes:
            each.process.join(timeout=1)
            each.process.kill()
            each.process.join()
        self._selector.close()
        gc.unfreeze()

    @property
    def processes(self) -> list[int]:
        """Ids of the worker processes."""
        return [each.process.pid for each in self._processes if each.process.pid is not None]

    def train(self, work: Work) -> Iterator[tuple[Job, LocalUpdate]]:
        """Yield each job's update as soon as it is there, in any order."""
        jobs = {job.number: job for job in work.jobs}
        queue = self._begin(work, 0)
        try:
            while queue or any(each.waiting for each in self._processes):
                self._dispatch(queue)
                for _, answer in self._answers(work, queue):
                    for number, trained, seconds in answer:
                        self._learn(number, trained.examples, seconds)
                        yield jobs[number], trained
        finally:
            self._restart_busy()

    def total(self, work: Work) -> Total:
        """Return the exact sum of the jobs' updates."""
        weights = sum(job.weight for job in work.jobs)
        total = Total(WeightedSum(self._worker.fixed, self._worker.dimension, weights))
        limbs = len(total.sum.limbs)
        queue = self._begin(work, limbs)
        try:
            self._dispatch(queue)
            self._add_own(work, total)
            while queue or any(each.waiting or each.summed for each in self._processes):
                self._dispatch(queue)
                for each, (weight, done) in self._answers(work, queue):
                    self._note(total, (Done(*row) for row in done))
                    if weight is not None:
                        total.sum.merge(self._sums[each.place][:limbs], weight)
                        each.summed = []
        finally:
            self._restart_busy()
        return total

    def _add_own(self, work: Work, total: Total) -> None:
        """Do this process's share of what is short, while a worker wakes up to do its own."""
        if not self._own:
            return
        worker, jobs, self._own = self._worker, self._own, ()
        worker.begin(work.index, work.bases, work.before, work.server)
        try:
            done = worker.add_all(jobs, total.sum)
        except Exception as error:
            raise worker.failure(error) from error
        self._note(total, done)

    def _note(self, total: Total, done: Iterable[Done]) -> None:
        for one in done:
            total.done[one.number] = one
            self._learn(one.number, one.examples, one.seconds)

    def _begin(self, work: Work, limbs: int) -> deque[_Message]:
        """Show the base models to the workers, and return the messages, longest work first."""
        if len(work.bases) > MAX_BASES:
            raise ValueError(f"a round has at most {MAX_BASES} base models")
        load = sum(self._cost(job.number) for job in work.jobs)
        may_share = limbs > 0 and self._rate > 0
        if may_share and load < QUANTUM:
            # Any message would cost more than it gains.
            self._own = work.jobs
            return deque()
        self._show(work, limbs)
        costs = sorted(((self._cost(job.number), job.number, job) for job in work.jobs), reverse=True)
        if may_share and load < AHEAD * QUANTUM * len(self._processes):
            # One message more would cost more than an evener load gains.
            *shares, self._own = _deal(costs, len(self._processes))
            return deque(self._asking._replace(jobs=share) for share in shares)
        portions = _portions(costs, QUANTUM if self._rate else 0.0)
        return deque(self._asking._replace(jobs=portion, last=False) for portion in portions)

    def _show(self, work: Work, limbs: int) -> None:
        """Copy a round's vectors to where the workers see them, and begin the work's messages."""
        for place, base in zip(self._bases, work.bases, strict=False):
            np.copyto(place, base)
        for place, vector in zip(self._server, work.server.values(), strict=False):
            np.copyto(place[: len(vector)], vector)
        self._works += 1
        self._deaths = 0
        weights = sum(job.weight for job in work.jobs)
        shared = (
            work.index,
            len(work.bases),
            work.before,
            tuple((name, len(vector)) for name, vector in work.server.items()),
        )
        self._asking = _Message(self._works, *shared, (), limbs, weights, last=True)

    def _dispatch(self, queue: deque[_Message]) -> None:
        """Give every worker something to do, and have its sum handed over where there is nothing left."""
        for ahead in range(AHEAD):
            for each in self._processes:
                if queue and len(each.waiting) <= ahead and not each.asked:
                    self._send(each, queue.popleft())
        if not queue:
            for each in self._processes:
                if each.summed and not each.asked:
                    self._send(each, self._asking)

    def _send(self, each: _Process, message: _Message) -> None:
        each.waiting.append(message)
        if message.limbs:
            each.summed += message.jobs
            each.asked = message.last
        # Of one that has died, reading tells.
        with contextlib.suppress(OSError):
            each.pipe.send(message.plain)

    def _answers(self, work: Work, queue: deque[_Message]) -> Iterator[tuple[_Process, Any]]:
        """Yield what workers answer, and give back to the queue what those that died had to do."""
        for key, _ in self._selector.select():
            each: _Process = key.data
            try:
                answer = each.pipe.recv()
            except (EOFError, OSError):
                self._replace(each, queue)
                continue
            if isinstance(answer, _WorkerError):
                log.debug("%s", answer.trace)
                raise answer.error
            message = each.waiting.popleft()
            if message.last:
                each.asked = False
            yield each, answer

    def _replace(self, each: _Process, queue: deque[_Message]) -> None:
        """Start another process in place of one that died."""
        self._deaths += 1
        code = self._stop(each)
        log.warning("a worker process died (exit code %s); it is started again", code)
        if self._deaths > MAX_DEATHS:
            raise TrainingError(
                f"{self._deaths} worker processes died in one round, the last with exit code {code}.",
                "Is there enough memory? Fewer workers need less of it: --workers N.",
            )
        # Of a sum all is lost that was added to it; of updates what was not delivered.
        lost = each.summed or [job for message in each.waiting for job in message.jobs]
        if lost:
            queue.append(self._asking._replace(jobs=lost, last=False))
        self._processes[each.place] = self._start(each.place)

    def _restart_busy(self) -> None:
        """Start those processes again whose answers nobody waits for any more."""
        for each in self._processes:
            if each.waiting or each.summed:
                self._stop(each)
                self._processes[each.place] = self._start(each.place)

    def _start(self, place: int) -> _Process:
        pipe, other = self._context.Pipe()
        forked = self._context.get_start_method() == "fork"
        inherited = [pipe, *(each.pipe for each in self._processes)] if forked else []
        arguments = (self._population, self._vectors, place, other, inherited, os.getpid())
        process = self._context.Process(target=_serve, args=arguments, daemon=True, name=f"fedledger worker {place}")
        process.start()
        other.close()
        each = _Process(place, process, pipe)
        self._selector.register(pipe, selectors.EVENT_READ, each)
        return each

    def _stop(self, each: _Process) -> int | None:
        self._selector.unregister(each.pipe)
        each.pipe.close()
        each.process.kill()
        each.process.join()
        return each.process.exitcode

    def _cost(self, number: int) -> float:
        """Return how long a participant will take, in seconds, by what it took, or by the number of its examples."""
        return self._costs.get(number) or self._rate * self._population.examples(number)

    def _learn(self, number: int, examples: int, seconds: float) -> None:
        self._costs[number] = seconds
        rate = seconds / max(1, examples)
        self._rate = 0.9 * self._rate + 0.1 * rate if self._rate else rate


def _portions(costs: Sequence[tuple[float, int, Job]], quantum: float) -> Iterator[list[Job]]:
    """Yield jobs in their order, in portions that each take at least so many seconds; the last may take less."""
    portion, load = list[Job](), 0.0
    for cost, _, job in costs:
        portion.append(job)
        load += cost
        if load >= quantum:
            yield portion
            portion, load = [], 0.0
    if portion:
        yield portion


def _deal(costs: Sequence[tuple[float, int, Job]], hands: int) -> list[list[Job]]:
    """Deal jobs, longest first, each to the hand that holds the least."""
    loads = [(0.0, place) for place in range(hands)]
    shares: list[list[Job]] = [[] for _ in range(hands)]
    for cost, _, job in costs:
        load, place = heapq.heappop(loads)
        shares[place].append(job)
        heapq.heappush(loads, (load + cost, place))
    return [share for share in shares if share]


def _serve(
    population: Population,
    vectors: SharedVectors,
    place: int,
    pipe: Connection,
    inherited: Sequence[Connection],
    parent: int,
) -> None:
    """Be a worker process, until the main process closes the pipe or dies."""
    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    become_worker(parent)
    torch.set_num_threads(1)
    gc.freeze()
    worker = Worker(population)
    bases, server, limbs = vectors.bases, vectors.server, vectors.limbs(place)
    work, total = 0, None
    with repeatable(), contextlib.suppress(EOFError, OSError):
        while True:
            message = _Message.named(pipe.recv())
            if work != message.work:
                work, total = message.work, None
                known = zip(message.server, server, strict=False)
                named = {name: vector[:length] for (name, length), vector in known}
                worker.begin(message.round, bases[: message.bases], message.before, named)
            try:
                answer: Any = None
                if message.limbs:
                    if total is None:
                        mine = limbs[: message.limbs]
                        mine[:] = 0
                        total = WeightedSum(worker.fixed, worker.dimension, message.weights, mine)
                    done = worker.add_all(message.jobs, total)
                    answer = total.weight if message.last else None, [tuple(one) for one in done]
                    if message.last:
                        total = None
                else:
                    began = time.perf_counter()
                    updates = [(job.number, trained) for job, trained in worker.train_all(message.jobs)]
                    seconds = (time.perf_counter() - began) / len(updates)
                    answer = [(number, trained, seconds) for number, trained in updates]
            except Exception as error:
                answer = _WorkerError(worker.failure(error), traceback.format_exc())
                total = None
            pipe.send(answer)
