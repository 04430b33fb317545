"""Many runs against attackers, in several processes; what is done is kept in a folder, from which one goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
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
from fedledger.protocol.errors import ConfigError

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
        faults: dict[Case, RobustnessRow] = {}
        done, total = 0, len(oracles) + len(runs)
        with _executor(self.workers) as pool:
            waiting: dict[Future[Any], Case | Condition] = {}
            rounds = self.kept.rounds
            waiting |= {pool.submit(oracle_accuracy, condition, rounds): condition for condition in oracles}
            waiting |= {pool.submit(played, case, rounds): case for case in runs}
            for future in as_completed(waiting):
                what, done = waiting[future], done + 1
                self._take(what, future, faults)
                self.announce(str(what), done, total)
        return [self._whole(case, faults) for case in self.cases]

    def _take(self, what: Case | Condition, future: Future[Any], faults: dict[Case, RobustnessRow]) -> None:
        try:
            found = future.result()
        except Exception as error:
            # What is wrong with one run stands in its row, and ends no other.
            if isinstance(what, Case):
                faults[what] = failed(what, error)
            return
        if isinstance(what, Case):
            self.kept.keep_row(what, found)
        else:
            self.kept.keep_oracle(what, found)

    def _whole(self, case: Case, faults: dict[Case, RobustnessRow]) -> RobustnessRow:
        row = self.kept.row(case) or faults[case]
        return replace(row, oracle=self.kept.oracle(case.condition))


class _Here(Executor):
    """Calls at once, in this process."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return the result of a call."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def _executor(workers: int) -> Iterator[Executor]:
    """Yield what plays runs: this process, or several of one thread each."""
    if workers <= 1:
        yield _Here()
        return
    before = {name: os.environ.get(name) for name in THREADS}
    # Libraries read these when they are loaded, so they must stand before the processes start.
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (os.getpid(),)) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
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
