"""Many runs of one configuration, several at a time; each is kept whole or not at all, and none is run twice."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedledger.platform.experiment.run_files import CHECKPOINT_FILE
from fedledger.platform.runs.compare import FAIRNESS_COLUMNS
from fedledger.platform.runs.curves import Spread, common_name, rounds_to, score_figure
from fedledger.platform.runs.grid import PlannedRun
from fedledger.platform.runs.run_folder import RunRecord
from fedledger.protocol.errors import ConfigError, FedledgerError
from fedledger.protocol.text import cell
from fedledger.storage.durable_files import write_atomically
from fedledger.storage.locks import locked
from fedledger.storage.machine import processors

if TYPE_CHECKING:
    from fedledger.platform.experiment.experiment import Experiment
    from fedledger.platform.runs.summary import LedgerSummary
    from fedledger.platform.runs.trackers.base import Tracked

LOCK_FILE = ".lock"
HANDS_LOCK = ".hands"
UNFINISHED = ".unfinished"
FAILED = "failed"
_GRACE = 10.0


@dataclass(frozen=True)
class FailedRun:
    """A run that failed.

    Parameters
    ----------
    run
        Which.
    reason
        Why, in one sentence.
    details
        The file with the whole traceback; None where the process ended without a word.
    """

    run: PlannedRun
    reason: str
    details: Path | None = None


@dataclass(frozen=True)
class Sweep:
    """The outcome of a sweep.

    Parameters
    ----------
    folder
        Where the runs' folders are.
    done
        Every run that has ended, with its record, in the plan's order.
    failures
        The others, in the plan's order.
    found
        How many of ``done`` had ended before.
    target
        The score whose first round is of interest, or None.
    """

    folder: Path
    done: Sequence[tuple[PlannedRun, RunRecord]]
    failures: Sequence[FailedRun]
    found: int
    target: float | None = None

    def points(self) -> list[dict[str, Any]]:
        """Return one row per point of the grid: its settings, and the spread of its runs' results over seeds."""
        rows = []
        for label, group in self._by_point().items():
            row: dict[str, Any] = {
                "point": label,
                "settings": dict(group[0][0].settings),
                "n": len(group),
                "score": Spread.of(record.score for _, record in group).document(),
                "loss": Spread.of(record.loss for _, record in group if record.loss is not None).document(),
                "seconds": Spread.of(record.seconds for _, record in group).document(),
                "spent": Spread.of(record.spent for _, record in group if record.spent is not None).document(),
                "fairness": _fairness(record for _, record in group),
            }
            if self.target is not None:
                firsts = [self._first(record) for _, record in group]
                row["rounds_to_target"] = Spread.of(first for first in firsts if first is not None).document()
            rows.append(row)
        return rows

    def document(self) -> dict[str, Any]:
        """Return the outcome as JSON."""
        return {
            "folder": str(self.folder),
            "score_name": self._score_name,
            "target": self.target,
            "found": self.found,
            "points": self.points(),
            "runs": [
                {
                    "point": run.label,
                    "seed": run.config.seed,
                    "folder": run.name,
                    "rounds": record.rounds,
                    "score": record.score,
                    "loss": record.loss,
                    "final_model": record.final_model,
                    "seconds": record.seconds,
                    "spent": record.spent,
                    **record.fairness,
                    **({} if self.target is None else {"rounds_to_target": self._first(record)}),
                }
                for run, record in self.done
            ],
            "failed": [
                {
                    "point": failure.run.label,
                    "seed": failure.run.config.seed,
                    "reason": failure.reason,
                    "details": None if failure.details is None else str(failure.details),
                }
                for failure in self.failures
            ],
        }

    def table(self) -> list[dict[str, str]]:
        """Return the points as a table to read."""
        rows = []
        for point in self.points():
            row = {"point": point["point"] or "–", "n": str(point["n"])}
            score = point["score"]
            row[f"{self._score_name}, mean ± sd"] = Spread(**score).shown(".4f")
            row["se"] = "–" if score["se"] is None else f"{score['se']:.4f}"
            row["loss, mean ± sd"] = Spread(**point["loss"]).shown(".4f")
            row |= {name: Spread(**point["fairness"][key]).shown(".4f") for name, key in FAIRNESS_COLUMNS.items()}
            if self.target is not None:
                first = point["rounds_to_target"]
                row[f"rounds to {self.target:g}"] = f"{Spread(**first).shown('.1f')} ({first['n']} of {point['n']})"
            if point["spent"]["n"]:
                row["units spent"] = Spread(**point["spent"]).shown(",.0f")
            row["seconds"] = Spread(**point["seconds"]).shown(".2f")
            rows.append(row)
        return rows

    def write(self) -> None:
        """Write ``sweep.json``, ``sweep.csv`` (one row per run) and ``sweep.html`` into the folder."""
        from fedledger.ledger_tools.report.page import table, write_page

        document = self.document()
        write_atomically(self.folder / "sweep.json", (json.dumps(document, indent=1) + "\n").encode())
        text = io.StringIO(newline="")
        if document["runs"]:
            writer = csv.writer(text)
            writer.writerow(map(cell, [*self.done[0][0].settings, *document["runs"][0]]))
            for (run, _), row in zip(self.done, document["runs"], strict=True):
                writer.writerow(map(cell, {**run.settings, **row}.values()))
        write_atomically(self.folder / "sweep.csv", text.getvalue().encode())
        if self.done:
            name = self.done[0][0].config.name
            groups = {
                label or name: [record.scores for _, record in group] for label, group in self._by_point().items()
            }
            write_page(
                self.folder / "sweep.html",
                name,
                "fedledger sweep",
                [table(self.table()), score_figure(groups, self._score_name)],
            )

    @property
    def _score_name(self) -> str:
        return common_name(record.score_name for _, record in self.done)

    def _first(self, record: RunRecord) -> int | None:
        """Return the first round of a run whose score is as good as the target."""
        return None if self.target is None else rounds_to(record.scores, self.target, record.lower_is_better)

    def _by_point(self) -> dict[str, list[tuple[PlannedRun, RunRecord]]]:
        groups: dict[str, list[tuple[PlannedRun, RunRecord]]] = {}
        for run, record in self.done:
            groups.setdefault(run.label, []).append((run, record))
        return groups


def _fairness(records: Iterable[RunRecord]) -> dict[str, dict[str, Any]]:
    """Return the spread over runs of each figure of their fairness, of those runs that tell it."""
    values: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.fairness.items():
            values.setdefault(name, []).extend([] if value is None else [value])
    return {name: Spread.of(each).document() for name, each in values.items()}


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep is run.

    Parameters
    ----------
    ledger
        Whether each run has a ledger, on a development chain of its own.
    jobs
        Number of concurrent runs; one per processor unless given. Where fewer runs are left than processors, each
        trains in several processes.
    target
        See :class:`Sweep`.
    track
        Trackers to which each run's rounds are logged.
    """

    ledger: bool = False
    jobs: int | None = None
    target: float | None = None
    track: tuple[str, ...] = ()


def run_sweep(
    runs: Sequence[PlannedRun],
    source: Path,
    folder: Path,
    options: SweepOptions,
    watch: Callable[[PlannedRun, RunRecord | FailedRun, int], None] = lambda run, outcome, done: None,
) -> Sweep:
    """Run what of a sweep is missing in its folder.

    A run's folder appears there when the run has ended, by one renaming. A run that was killed continues from its last
    checkpoint or, with a ledger, begins again.

    Parameters
    ----------
    runs
        The plan.
    source
        Paths in the configuration are relative to it.
    folder
        Where the runs' folders are.
    options
        How they are run.
    watch
        Is shown each run that has ended, its record or failure, and how many of the plan have ended so far.

    Raises
    ------
    ConfigError
        If another sweep is running in the folder, or a tracker does not exist.
    """
    if options.track:
        from fedledger.platform.runs.trackers.base import tracking

        # An unknown tracker is reported before anything is run.
        with tracking(options.track, runs[0].config, folder):
            pass
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        records = {run.name: RunRecord.read(folder / run.name) for run in runs if (folder / run.name).is_dir()}
        found, failures = len(records), []
        for run, failure in _outcomes(
            *_tasks([run for run in runs if run.name not in records], source, folder, options)
        ):
            if failure is None:
                records[run.name] = RunRecord.read(folder / run.name)
            else:
                failures.append(failure)
            watch(run, failure or records[run.name], len(records) + len(failures))
        done = [(run, records[run.name]) for run in runs if run.name in records]
        # By name: a value that is no number is not equal to itself.
        order = {run.name: place for place, run in enumerate(runs)}
        failures.sort(key=lambda failure: order[failure.run.name])
        sweep = Sweep(folder, done, failures, found, options.target)
        sweep.write()
        return sweep


def _tasks(missing: Sequence[PlannedRun], source: Path, folder: Path, options: SweepOptions) -> tuple[list[_Task], int]:
    """Return a task for each missing run, and how many are played at once."""
    hands = max(1, min(options.jobs or processors(), len(missing)))
    share = max(1, processors() // hands)
    place = source.resolve(), folder.resolve(), options.ledger, share, options.track
    return [_Task(run, *place) for run in missing], hands


@dataclass(frozen=True)
class _Task:
    run: PlannedRun
    source: Path
    folder: Path
    ledger: bool
    workers: int
    track: tuple[str, ...]

    def play(self) -> FailedRun | None:
        """Run it, and say why if it fails."""
        place = self.folder / UNFINISHED / self.run.name
        try:
            place.mkdir(parents=True, exist_ok=True)
            self._run(place)
        except Exception as error:
            shutil.rmtree(place, ignore_errors=True)
            details = self.folder / FAILED / f"{self.run.name}.txt"
            details.parent.mkdir(exist_ok=True)
            details.write_text(traceback.format_exc(), encoding="utf-8")
            reason = str(error) if isinstance(error, FedledgerError) else f"{type(error).__name__}: {error}"
            return FailedRun(self.run, reason, details)
        return None

    def _run(self, place: Path) -> None:
        from fedledger.platform.engine.checkpoint import STATES_FOLDER
        from fedledger.platform.experiment.assembly import make_experiment
        from fedledger.platform.runs.plain_run import run_without_ledger
        from fedledger.platform.runs.trackers.base import tracking

        experiment = make_experiment(self.run.config, self.source)
        # The model is the same to the bit in one process and in several.
        backend = "batched" if self.workers == 1 else "pool"
        with tracking(self.track, self.run.config, place, self.folder / self.run.name) as tracked:
            if self.ledger:
                tracked.summary = self._run_with_ledger(experiment, place, backend, tracked)
            else:
                tracked.summary = run_without_ledger(experiment, place, backend, self.workers, tracked.log)
        if not self.ledger:
            # What only an interrupted run needs.
            (place / CHECKPOINT_FILE).unlink(missing_ok=True)
            shutil.rmtree(place / STATES_FOLDER, ignore_errors=True)
        (self.folder / FAILED / f"{self.run.name}.txt").unlink(missing_ok=True)
        place.rename(self.folder / self.run.name)

    def _run_with_ledger(self, experiment: Experiment, place: Path, backend: str, tracked: Tracked) -> LedgerSummary:
        from fedledger.platform.engine.backends.choose import open_backend
        from fedledger.platform.runs.ledger_run import open_chain, run_with_ledger
        from fedledger.storage.open import open_store

        # Its chain ended with the process that was killed.
        shutil.rmtree(place)
        place.mkdir()
        with open_backend(backend, experiment, self.workers) as trains, open_chain("auto", place) as chain:
            store = open_store("local", place / "store")
            return run_with_ledger(experiment, self.source, place, chain, store, tracked.show, trains)


class _Hand:
    """A process that plays one task after another."""

    def __init__(self, folder: Path) -> None:
        context = get_context("spawn")
        self.pipe, there = context.Pipe()
        # Not a daemon: those may not have children, and a run may want some.
        self._process = context.Process(target=_serve, args=(there, folder))
        self._process.start()
        there.close()
        self.task: _Task | None = None

    def begin(self, task: _Task) -> None:
        self.task = task
        with contextlib.suppress(OSError):
            self.pipe.send(task)

    def outcome(self) -> tuple[_Task, FailedRun | None, bool]:
        """Return the task that has ended, why if it failed, and whether the process is still there."""
        task, self.task = self.task, None
        assert task is not None
        try:
            return task, self.pipe.recv(), True
        except (EOFError, OSError):
            self._process.join(_GRACE)
            code = self._process.exitcode
            how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
            return task, FailedRun(task.run, f"Its process {how}: memory may have run out. Try fewer --jobs."), False

    def stop(self) -> None:
        self.pipe.close()
        if self.task is not None:
            self._process.terminate()
        self._process.join(_GRACE)
        self._process.kill()
        self._process.join()


def _outcomes(tasks: Sequence[_Task], hands: int) -> Iterator[tuple[PlannedRun, FailedRun | None]]:
    """Play tasks, at most ``hands`` at once, and yield each when it has ended."""
    queue = deque(tasks)
    crew: list[_Hand] = []
    try:
        while queue or any(hand.task for hand in crew):
            _hand_out(queue, crew, hands)
            ready = wait([hand.pipe for hand in crew if hand.task])
            for hand in [hand for hand in crew if hand.pipe in ready]:
                task, failure, alive = hand.outcome()
                if not alive:
                    crew.remove(hand)
                    hand.stop()
                yield task.run, failure
    finally:
        for hand in crew:
            hand.pipe.close()
        for hand in crew:
            hand.stop()


def _hand_out(queue: deque[_Task], crew: list[_Hand], hands: int) -> None:
    """Begin tasks of the queue in processes that are idle, of which there may be ``hands``."""
    while queue and len(crew) < hands:
        crew.append(_Hand(queue[0].folder))
    for hand in crew:
        if queue and hand.task is None:
            hand.begin(queue.popleft())


def _serve(pipe: Connection, folder: Path) -> None:
    """Be such a process, until the main one closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What has chains and processes of its own ends them on its way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with locked(folder / HANDS_LOCK, shared=True), contextlib.suppress(EOFError, OSError):
        while True:
            task: _Task = pipe.recv()
            pipe.send(task.play())


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder, until this process ends at the latest."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK_FILE, wait=False))
        except BlockingIOError as error:
            raise ConfigError(
                f"Another sweep is running in {folder}.", "Wait for it, or choose another folder with --out."
            ) from error
        # Processes of a sweep that was killed see it and end, but not at once.
        with locked(folder / HANDS_LOCK):
            pass
        yield
