"""What a backend is: participants in, their updates or the exact sum of these out.

A participant's update is a function of the task, the round, its base model, its data and its memory. So it does not
matter where, when or beside whom it is trained; sums are of integers, so their order does not matter either. Every
backend on the CPU gives the same bits, at any number of workers, and also after one of them was killed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.vectors import repeatable
from fedledger.node.batched_clients import (
    MAX_COPIES,
    BatchedClients,
    BatchedUpdates,
    ReplayableClients,
    batched_clients,
)
from fedledger.node.solvers.base import BLANK, LocalUpdate, Memory
from fedledger.node.training import Trainer, TrainingContext, training_seed
from fedledger.protocol.arithmetic.exact import NotFiniteError, OutOfRangeError
from fedledger.protocol.arithmetic.weighted_sum import WeightedSum
from fedledger.protocol.errors import FedledgerError, RoundError
from fedledger.protocol.methods.catalogue import BACKEND
from fedledger.protocol.methods.registry import Registry
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import START_LOSS
from fedledger.protocol.records.verdicts import Verdict

log = logging.getLogger(__name__)

Vector = NDArray[np.float32]


class Population(Protocol):
    """The participants of a task, as far as training is concerned; it is copied into worker processes."""

    @property
    def spec(self) -> TaskSpec:
        """The task's spec."""
        ...

    @property
    def initial(self) -> ModelFile:
        """The initial model; its names and shapes are every model's."""
        ...

    def address(self, number: int) -> str:
        """Return a participant's address, from which its random streams derive."""
        ...

    def examples(self, number: int) -> int:
        """Return how many examples a participant says it has."""
        ...

    def trainer(self, number: int) -> Trainer:
        """Return what makes the updates of a participant."""
        ...

    def on(self, device: str) -> Population:
        """Return the same participants, training on a torch device."""
        ...


NOTHING: Mapping[str, Vector] = {}
"""What a participant keeps that keeps nothing."""


class Job(NamedTuple):
    """What one participant does in a round.

    Parameters
    ----------
    number
        The participant.
    staleness
        How many bases before the round's own the participant trains on.
    weight
        In a sum.
    own
        float32 vectors that the participant kept from its last update that counted.
    """

    number: int
    staleness: int = 0
    weight: int = 0
    own: Mapping[str, Vector] = NOTHING


@dataclass(frozen=True)
class Work:
    """A round's training.

    Parameters
    ----------
    index
        The round.
    bases
        float32[d] each: the round's base model, then earlier ones, as far back as a job goes, and those of the rounds
        before, the nearest first, as far back as an attacker looks and at least one.
    jobs
        Who trains.
    before
        Which of the bases is that of the round before, behind which are those before it; None: there was none.
    server
        float32 vectors that the aggregator publishes, by the names that the spec gives; none before the first round.
    """

    index: int
    bases: Sequence[Vector]
    jobs: Sequence[Job]
    before: int | None = None
    server: Mapping[str, Vector] = field(default_factory=dict)


class Done(NamedTuple):
    """What is known of a participant's training besides its update.

    ``refused`` tells why the update takes no part in the sum: a coordinate that is no finite number, or out of range.
    ``state`` is what the participant keeps if its update counts.
    """

    number: int
    examples: int
    steps: int
    seconds: float
    refused: Verdict | None = None
    state: Mapping[str, Vector] = NOTHING


@dataclass
class Total:
    """The exact weighted sum of a round's updates, and what is known of each, by participant number."""

    sum: WeightedSum
    done: dict[int, Done] = field(default_factory=dict)

    @property
    def refused(self) -> dict[int, Verdict]:
        """The participants whose updates are not in the sum."""
        return {number: done.refused for number, done in self.done.items() if done.refused is not None}


class Backend(AbstractContextManager["Backend"], Protocol):
    """Trains participants; to be closed."""

    def train(self, work: Work) -> Iterator[tuple[Job, LocalUpdate]]:
        """Yield each job's update as soon as it is there, in any order."""
        ...

    def total(self, work: Work) -> Total:
        """Return the sum of the jobs' updates times their weights, without holding the updates."""
        ...


Factory = Callable[[Population, int | None], Backend]
BACKENDS: Registry[Factory] = Registry(BACKEND)


TRAINERS = 1024
"""Participants whose trainers a worker remembers."""


class TrainingError(RoundError):
    """A participant's local training failed."""


class Worker:
    """Trains one participant after another in one process, on one thread.

    Parameters
    ----------
    population
        The participants.
    batched
        Whether participants are trained together where that gives the same bits: see `fedledger.node.batched_clients`.
    """

    def __init__(self, population: Population, batched: bool = True) -> None:
        self.spec = population.spec
        self.fixed = self.spec.fixed
        self._population = population
        self._trainer = lru_cache(maxsize=TRAINERS)(population.trainer)
        self._size = lru_cache(maxsize=TRAINERS)(self._batched_size)
        self._initial = population.initial
        self._batched, self._trains = batched, -1
        self._batched_clients: BatchedClients | ReplayableClients | None = None

    @property
    def dimension(self) -> int:
        """Number of coordinates d that updates move."""
        return self._initial.dimension

    def begin(
        self, index: int, bases: Sequence[Vector], before: int | None = None, server: Mapping[str, Vector] = NOTHING
    ) -> None:
        """Go on with a round: what follows is trained for it."""
        self._round = index
        self._bases = [self._initial.moved(base) for base in bases]
        self._earlier = [] if before is None else self._bases[before:]
        self._server = server

    def train(self, job: Job) -> LocalUpdate:
        """Return a participant's update; an error says in which round and whose training it was."""
        number, staleness, _, own = job
        self._trains = number
        memory = Memory(own, self._server) if own or self._server else BLANK
        context = TrainingContext(
            spec=self.spec,
            index=self._round,
            owner=self._population.address(number),
            base=self._bases[staleness],
            before=self._earlier[0] if self._earlier else None,
            memory=memory,
            earlier=self._earlier,
        )
        try:
            return self._trainer(number)(context)
        except Exception as error:
            error.add_note(f"in round {self._round}, training of participant {number}")
            raise

    def train_all(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, LocalUpdate]]:
        """Yield the jobs' updates, in any order."""
        for group in self._groups(jobs):
            trained = self._train_batched(group)
            if trained is not None:
                yield from zip(group, trained.updates(), strict=True)
            else:
                yield from ((job, self.train(job)) for job in group)

    def add_all(self, jobs: Sequence[Job], total: WeightedSum) -> list[Done]:
        """Train participants and add their updates to a sum."""
        done, alone = list[Done](), list[Job]()
        for group in self._groups(jobs):
            began = time.perf_counter()
            trained = self._train_batched(group)
            if trained is not None and self._add_rows(group, trained.deltas, total):
                seconds = (time.perf_counter() - began) / len(group)
                examples, steps = trained.examples, trained.steps
                done += [Done(job.number, examples, steps, seconds) for job in group]
            else:
                alone += group
        if alone:
            with repeatable():
                done += [self._add(job, total) for job in alone]
        return done

    def _add_rows(self, group: Sequence[Job], rows: Vector, total: WeightedSum) -> bool:
        """Add updates to a sum and return whether that was possible: whose fault it was must be found one by one."""
        try:
            total.add_rows(rows, [job.weight for job in group])
        except (NotFiniteError, OutOfRangeError):
            return False
        return True

    def _add(self, job: Job, total: WeightedSum) -> Done:
        began = time.perf_counter()
        trained = self.train(job)
        refused = None
        try:
            total.add(trained.delta, job.weight)
        except NotFiniteError:
            refused = Verdict.NOT_FINITE
        except OutOfRangeError:
            refused = Verdict.OUT_OF_RANGE
        seconds = time.perf_counter() - began
        return Done(job.number, trained.examples, trained.steps, seconds, refused, trained.state or NOTHING)

    def _groups(self, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
        """Yield groups of jobs that may be trained together, or single ones."""
        waiting: dict[tuple[int, int], list[Job]] = {}
        for job in jobs:
            size = None if job.own else self._size(job.number)
            if size is None:
                yield (job,)
                continue
            key = size, job.staleness
            group = waiting.setdefault(key, [])
            group.append(job)
            if len(group) == MAX_COPIES:
                yield waiting.pop(key)
        yield from waiting.values()

    def _batched_size(self, number: int) -> int | None:
        """Return how many examples a participant has, if it may be trained together with others."""
        # Those who train together do not tell their losses before.
        if not self._batched or START_LOSS in self.spec.vectors:
            return None
        trainer = self._trainer(number)
        if self._batched_clients is None:
            windows = self.spec.windows
            self._batched_clients = batched_clients(trainer, None if windows is None else windows.steps)
        return (
            len(trainer.dataset)
            if self._batched_clients is not None and self._batched_clients.trains(trainer)
            else None
        )

    def _train_batched(self, group: Sequence[Job]) -> BatchedUpdates | None:
        """Return what a group learned, or None if they are to be trained one by one."""
        clients = self._batched_clients
        if len(group) == 1 or clients is None:
            return None
        trainers = (self._trainer(job.number) for job in group)
        datasets = [trainer.dataset for trainer in trainers if clients.trains(trainer)]
        seeds = [training_seed(self.spec, self._round, self._population.address(job.number)) for job in group]
        try:
            return clients(self._bases[group[0].staleness].vector, datasets, seeds)
        except Exception:
            # Whose fault it is will be seen when they are trained one by one.
            log.debug("participants cannot be trained together", exc_info=True)
            return None

    def failure(self, error: Exception) -> FedledgerError:
        """Return an error of the participant that is trained, as it reaches another process; not every error can."""
        if isinstance(error, FedledgerError):
            return error
        return TrainingError(
            f"Round {self._round}, participant {self._trains}: {type(error).__name__}: {error}.",
            "Run again with --backend serial for the whole traceback.",
        )
