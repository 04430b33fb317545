"""Many runs against attackers, in several processes; what is done is kept in a folder, from which one goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from fedledger.learning.worker import become_worker
from fedledger.platform.bench.robustness import (
    Case,
    Condition,
    RobustnessRow,
    configuration,
    failed,
    oracle_accuracy,
    played,
)
from fedledger.protocol.errors import ConfigError, FedledgerError

ROWS, ORACLES = "rows.jsonl", "oracles.jsonl"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that say how many threads libraries take."""


@dataclass
class Kept:
    """What a folder holds of earlier runs of the command; nothing is kept without one.

    Each line of its files names the configuration of which it is the result, so that what was found with other
    defaults is not taken for a result with these. It does not name the program: start a new folder for another one.

    Parameters
    ----------
    folder
        The folder, made if it is not there.
    rounds
        Rounds of each run, if not the usual number.
    """

    folder: Path | None
    rounds: int | None = None
    _known: dict[str, Any] = field(default_factory=dict)
    _begun: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (self.folder / ROWS, self.folder / ORACLES):
            for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
                if line:
                    self._take(file, line)

    def row(self, case: Case) -> RobustnessRow | None:
        """Return the row of a run; None if there is none yet, or it failed."""
        return self._known.get(self._key(case))

    def oracle(self, condition: Condition) -> float | None:
        """Return the oracle's accuracy in a condition."""
        return self._known.get(self._oracle_key(condition))

    def keep_row(self, case: Case, row: RobustnessRow) -> None:
        """Keep the row of a run; one that failed is played again next time."""
        if row.error is None:
            self._keep(ROWS, self._key(case), asdict(row), row)

    def keep_oracle(self, condition: Condition, accuracy: float) -> None:
        """Keep the oracle's accuracy in a condition."""
        self._keep(ORACLES, self._oracle_key(condition), accuracy, accuracy)

    def _take(self, file: Path, line: str) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            # Half a line, as the command was killed while it wrote: that run is played again.
            return
        try:
            result = found["result"]
            self._known[found["of"]] = RobustnessRow(**result) if file.name == ROWS else float(result)
        except (ValueError, TypeError, LookupError) as error:
            raise ConfigError(f"{file} cannot be read: {error}.", "Give a new folder.") from error

    def _keep(self, name: str, key: str, result: object, value: object) -> None:
        self._known[key] = value
        if self.folder is not None:
            with (self.folder / name).open("a", encoding="utf-8") as file:
                # The line before it may be half written.
                file.write("\n" * (name not in self._begun) + json.dumps({"of": key, "result": result}) + "\n")
            self._begun.add(name)

    def _key(self, case: Case) -> str:
        config = configuration(case, self.rounds).model_dump(mode="json")
        return f"{case.pipeline} {case.attack} {_digest(config)}"

    def _oracle_key(self, condition: Condition) -> str:
        return f"oracle {_digest([asdict(condition), self.rounds])}"


@dataclass
class Campaign:
    """Runs of many cases.

    Parameters
    ----------
    cases
        The runs.
    rounds
        Rounds of each, if not the usual number.
    kept
        What was found before.
    workers
        Number of processes.
    announce
        Is told what has just been found, how many are, and how many there will be.
    """

    cases: Sequence[Case]
    kept: Kept
    workers: int = 1
    announce: Callable[[str, int, int], None] = lambda doing, done, of: None

    def rows(self) -> list[RobustnessRow]:
        """Play what is not known yet, and return all rows in the order of the cases; one that failed says why."""
        conditions = list(dict.fromkeys(case.condition for case in self.cases))
        oracles = [each for each in conditions if self.kept.oracle(each) is None]
        runs = [case for case in self.cases if self.kept.row(case) is None]
        faults: dict[Case | Condition, Exception] = {}
        todo: list[Case | Condition] = [*oracles, *runs]
        for done, (what, found) in enumerate(_found(todo, self.kept.rounds, self.workers), start=1):
            if isinstance(found, Exception):
                # What is wrong with one run stands in its row, and ends no other.
                faults[what] = found
            elif isinstance(what, Case):
                self.kept.keep_row(what, found)
            else:
                self.kept.keep_oracle(what, found)
            self.announce(str(what), done, len(todo))
        return [self._whole(case, faults) for case in self.cases]

    def _whole(self, case: Case, faults: dict[Case | Condition, Exception]) -> RobustnessRow:
        row, fault = self.kept.row(case), faults.get(case) or faults.get(case.condition)
        if row is None or fault is not None:
            return failed(case, fault or KeyError(case))
        return replace(row, oracle=self.kept.oracle(case.condition))


def _found(
    todo: Sequence[Case | Condition], rounds: int | None, workers: int
) -> Iterator[tuple[Case | Condition, Any]]:
    """Yield what each run or condition comes to as soon as it does, or what went wrong."""
    if workers <= 1:
        yield from ((what, _try(what, rounds)) for what in todo)
        return
    with _one_thread_each(), ProcessPoolExecutor(workers, get_context("spawn"), _begin, (os.getpid(),)) as pool:
        waiting = {pool.submit(_try, what, rounds): what for what in todo}
        try:
            for future in as_completed(waiting):
                # A process that was killed is nobody's answer.
                fault = future.exception()
                yield waiting[future], future.result() if fault is None else fault
        except BaseException:
            # Whoever interrupts the bench does not wait for what has not begun.
            pool.shutdown(cancel_futures=True)
            raise


def _try(what: Case | Condition, rounds: int | None) -> RobustnessRow | float | Exception:
    try:
        return played(what, rounds) if isinstance(what, Case) else oracle_accuracy(what, rounds)
    except FedledgerError as error:
        return error
    except Exception as error:
        # Not every error reaches another process as it is.
        return RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Have processes that are started compute with one thread."""
    before = {name: os.environ.get(name) for name in THREADS}
    # Libraries read these when they are loaded.
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin(parent: int) -> None:
    become_worker(parent)
    torch.set_num_threads(1)


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
