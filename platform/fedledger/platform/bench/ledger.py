"""What a round costs with the ledger, and its audit, beside the training that both are about.

Everything is timed within one run on a fresh Anvil: each round is trained once for the time of its training alone, and
then played, by the same worker processes. So a ratio is that of neighbours in time, whatever else the machine does.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import numpy as np

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.learning.data import Dataset, Parts
from fedledger.learning.worker import become_worker
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.audit.export import LEDGER_FILE, export_ledger
from fedledger.node.solvers.base import LocalUpdate
from fedledger.platform.bench.engine import Bench
from fedledger.platform.engine.backends.base import Backend, Job, Total, Work
from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.engine.with_ledger import Run, run
from fedledger.platform.experiment.assembly import assemble
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.errors import ConfigError, FedledgerError
from fedledger.storage.local import LocalStore
from fedledger.storage.machine import processors

P = ParamSpec("P")
T = TypeVar("T")

WARM_UP = 2
"""Rounds that are not counted."""
TESTED = 16
"""Examples on which the accuracy is measured, which is not what is timed."""


@dataclass(frozen=True)
class Case:
    """A run to be timed: so many rounds, ``WARM_UP`` of them not counted, of so many participants of a workload.

    With one worker process fewer than processors, what the ledger adds has a processor of its own.
    """

    workload: str
    participants: int
    validation: int
    rounds: int
    workers: int = 1

    @classmethod
    def read(cls, text: str) -> Case:
        """Return the case that a user writes as WORKLOAD:PARTICIPANTS:VALIDATION:ROUNDS, or with :WORKERS after it."""
        name, *numbers = text.split(":")
        try:
            case = cls(name, *map(int, numbers))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{text!r} is not a case.", "Give for example digits:10:64:40, or cnn:10:64:42:2."
            ) from error
        if case.rounds <= WARM_UP or min(case.participants, case.validation, case.workers) < 1:
            raise ConfigError(
                f"{text!r} measures nothing.",
                f"Give more than {WARM_UP} rounds (the first {WARM_UP} are not counted), and numbers of at least 1.",
            )
        return case


CASES: tuple[Case, ...] = (
    Case("digits", 10, 64, 40),
    Case("digits", 100, 64, 12),
    Case("digits", 1000, 64, 6),
    Case("cnn", 10, 64, 42),
    Case("cnn", 10, 64, 42, workers=2),
    Case("cnn", 10, 1000, 22),
)
QUICK: tuple[Case, ...] = (Case("digits", 10, 64, 8), Case("cnn", 10, 64, 5))
AUDITED = Case("cnn", 10, 64, 60)
REPETITIONS, AUDITS = 3, 3
"""Runs that are audited, and audits of each: one is over before a machine has had its average speed, as a run has."""


@dataclass(frozen=True)
class LedgerRow:
    """What the rounds of a run took.

    Parameters
    ----------
    workload, participants, validation, rounds, workers
        Of the case; rounds are those that were counted, workers the processes that trained.
    seconds_per_round, most_seconds_per_round
        Median over the rounds, and their ninth decile: with the ledger and all that is on.
    training_seconds_per_round
        Median of what their training takes in the same processes, with nothing beside it.
    overhead
        Median of what rounds took beyond that, as a share of it.
    overhead_ms_per_participant
        The same in milliseconds a participant.
    processor_seconds_per_round, processor_ms_per_participant
        Processor time in a round of the process that plays all parts but the training, and what of it is not spent on
        training either, a participant; Anvil's is not in it.
    accepted
        Updates of the last round that were.
    """

    workload: str
    participants: int
    validation: int
    rounds: int
    workers: int
    seconds_per_round: float
    most_seconds_per_round: float
    training_seconds_per_round: float
    overhead: float
    overhead_ms_per_participant: float
    processor_seconds_per_round: float
    processor_ms_per_participant: float
    accepted: int


@dataclass(frozen=True)
class AuditRow:
    """What audits took, and the run that they replay, which trained in as many processes.

    Parameters
    ----------
    workload, participants, validation, rounds, processes
        Of the run and of both.
    run_seconds, audit_seconds
        Medians of all rounds of a run, but not its set-up, and of whole audits, each a program of its own.
    ratio
        Median over the runs of each one's seconds over the median of its audits'.
    ratios
        Of each run.
    """

    workload: str
    participants: int
    validation: int
    rounds: int
    processes: int
    run_seconds: float
    audit_seconds: float
    ratio: float
    ratios: tuple[float, ...]


@dataclass
class Times:
    """When rounds ended, and what training alone took until then, once: seconds and processor seconds each."""

    ends: list[tuple[float, float]] = field(default_factory=list)
    trained: list[tuple[float, float]] = field(default_factory=list)
    training: tuple[float, float] = (0.0, 0.0)

    def train(self, seconds: float, processor: float) -> None:
        """Count a round's training that was done for its time alone."""
        self.training = self.training[0] + seconds, self.training[1] + processor

    def end_round(self, metrics: object) -> None:
        """Count a round."""
        self.ends.append(_now())
        self.trained.append(self.training)

    def row(self, case: Case, finished: Run) -> LedgerRow:
        """Return the figures of a run whose training was done twice."""
        both, training = (np.diff(np.array(times), axis=0)[WARM_UP - 1 :] for times in (self.ends, self.trained))
        whole = both - training
        rest = whole - training
        return LedgerRow(
            workload=case.workload,
            participants=case.participants,
            validation=case.validation,
            rounds=len(whole),
            workers=case.workers,
            seconds_per_round=median(whole[:, 0]),
            most_seconds_per_round=float(np.quantile(whole[:, 0], 0.9)),
            training_seconds_per_round=median(training[:, 0]),
            overhead=median(rest[:, 0] / training[:, 0]),
            overhead_ms_per_participant=median(rest[:, 0]) / case.participants * 1e3,
            processor_seconds_per_round=median(whole[:, 1]),
            processor_ms_per_participant=median(rest[:, 1]) / case.participants * 1e3,
            accepted=int(finished.metrics[-1]["accepted"]),
        )


class TimedBackend:
    """A backend that trains all of a round once before, with nothing beside, and tells how long that takes.

    What a run does while others still train does not make training look longer then.
    """

    def __init__(self, backend: Backend, times: Times) -> None:
        self._backend, self._times = backend, times

    def __enter__(self) -> TimedBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def train(self, work: Work) -> Iterator[tuple[Job, LocalUpdate]]:
        """Yield each job's update, the second time that it is made."""
        began, busy = _now()
        for _ in self._backend.train(work):
            pass
        ended, busy_until = _now()
        self._times.train(ended - began, busy_until - busy)
        return self._backend.train(work)

    def total(self, work: Work) -> Total:
        """Return the sum of the jobs' updates."""
        return self._backend.total(work)


def time_rounds(case: Case) -> LedgerRow:
    """Play a case and return what its rounds took."""
    experiment, times = make_experiment(case), Times()
    with (
        Pool(experiment, case.workers) as pool,
        running_chain("anvil") as chain,
        TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder,
    ):
        store, timed = LocalStore(Path(folder, "store")), TimedBackend(pool, times)
        finished = run(experiment, Chain(chain.url), store, Path(folder), times.end_round, None, timed)
    return times.row(case, finished)


def time_audit(case: Case, processes: int) -> AuditRow:
    """Play a case with a pool and audit it, several times, and return what that took."""
    runs, audits, ratios = [], [], []
    for _ in range(REPETITIONS):
        with TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as name:
            runs.append(alone(time_run, case, processes, Path(name)))
            own = [alone(time_audit_of, Path(name), processes) for _ in range(AUDITS)]
        audits += own
        ratios.append(runs[-1] / median(own))
    place = case.workload, case.participants, case.validation, case.rounds, processes
    return AuditRow(*place, median(runs), median(audits), median(ratios), tuple(ratios))


def time_run(case: Case, processes: int, folder: Path) -> float:
    """Play a case in a folder with a pool, export its ledger, and return the seconds of all its rounds."""
    experiment, times = make_experiment(case), Times()
    with Pool(experiment, processes) as pool, running_chain("anvil") as running:
        chain = Chain(running.url)
        finished = run(experiment, chain, LocalStore(folder / "store"), folder, times.end_round, None, pool)
        export_ledger(finished.ledger, finished.deployment, finished.history).write(folder / LEDGER_FILE)
    seconds = [end for end, _ in times.ends]
    # What the first round took is among what set-up took.
    return (seconds[-1] - seconds[0]) * case.rounds / (case.rounds - 1)


def time_audit_of(folder: Path, processes: int) -> float:
    """Return the seconds that the audit of a run takes."""
    began = time.perf_counter()
    result = audit_run(folder, jobs=processes)
    took = time.perf_counter() - began
    if not result.reproduced:
        raise FedledgerError(f"The benchmark's own run is not reproduced: {result.first_divergence}.")
    return took


def alone(play: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Return what a function returns in a process of its own, as one command of a user is one."""
    with ProcessPoolExecutor(1, get_context("spawn"), become_worker, (os.getpid(),)) as pool:
        return pool.submit(play, *arguments, **named).result()


def time_all(
    cases: Sequence[Case] = CASES,
    audited: Case | None = AUDITED,
    announce: Callable[[str], None] = lambda doing: None,
) -> tuple[list[LedgerRow], list[AuditRow]]:
    """Time cases one after another, and the audit of one, each in a process of its own.

    Raises
    ------
    ConfigError
        If the workloads are not there, as they come with a checkout alone.
    ChainError
        If there is no Anvil.
    """
    rows = []
    for case in cases:
        announce(
            f"{case.workload}, {case.participants} participants, {case.validation} validation examples, "
            f"{case.workers} workers"
        )
        rows.append(alone(time_rounds, case))
    if audited is None:
        return rows, []
    announce(f"the audit of {audited.workload}")
    return rows, [time_audit(audited, processors())]


def make_experiment(case: Case) -> Experiment:
    """Return the experiment of a case: a workload of the comparison of engines, under the default pipeline.

    Commitments are batched. Where there are more participants than the workload has parts, each has a random part.
    """
    scripts = str(Bench.find().scripts)
    sys.path.insert(0, scripts)
    try:
        workloads, models = importlib.import_module("workloads"), importlib.import_module("fedledger_engine").MODELS
    finally:
        sys.path.remove(scripts)
    if case.workload not in models:
        raise ConfigError(f"There is no workload {case.workload!r}.", f"There are: {', '.join(models)}.")
    workload = workloads.load(case.workload)
    document: dict[str, Any] = {
        "name": case.workload,
        "participants": case.participants,
        "model": models[case.workload],
        "training": {
            "rounds": case.rounds,
            "solver": {
                "method": "sgd@1",
                "params": {
                    "learning_rate": workload.learning_rate,
                    "batch_size": workload.batch,
                    "local_epochs": 1,
                },
            },
        },
        "ledger": {"batched": True},
    }
    dataset = Dataset.of(workload.inputs, workload.labels, classes=10)
    rng, examples = np.random.default_rng(0), np.arange(len(dataset))
    indices = [
        examples[workload.part(number)]
        if case.participants <= workload.clients
        else rng.choice(examples, len(examples) // workload.clients, replace=False)
        for number in range(case.participants)
    ]
    shown = np.arange(len(dataset) - case.validation, len(dataset))
    config = ExperimentConfig.model_validate(document)
    return assemble(config, Parts(dataset, indices), dataset.take(shown), dataset.take(examples[:TESTED]))


def _now() -> tuple[float, float]:
    """Return seconds of the clock, and processor seconds of this process."""
    return time.perf_counter(), time.process_time()
