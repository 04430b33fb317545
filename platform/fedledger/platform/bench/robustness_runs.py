"""Many runs against attackers, in several processes; what is done is kept in a folder, from which one goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedledger.platform.bench.kept_lines import KeptLines
from fedledger.platform.bench.processes import shared_out
from fedledger.platform.bench.robustness import (
    Case,
    Condition,
    RobustnessRow,
    configuration,
    failed,
    oracle_accuracy,
    played,
)
from fedledger.protocol.errors import FedledgerError

ROWS, ORACLES = "rows.jsonl", "oracles.jsonl"


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

    def __post_init__(self) -> None:
        self._rows = KeptLines(self.folder, ROWS, lambda found: RobustnessRow(**found))
        self._oracles = KeptLines(self.folder, ORACLES, float)

    def row(self, case: Case) -> RobustnessRow | None:
        """Return the row of a run; None if there is none yet, or it failed."""
        return self._rows.get(self._key(case))

    def oracle(self, condition: Condition) -> float | None:
        """Return the oracle's accuracy in a condition."""
        return self._oracles.get(self._oracle_key(condition))

    def keep_row(self, case: Case, row: RobustnessRow) -> None:
        """Keep the row of a run; one that failed is played again next time."""
        if row.error is None:
            self._rows.keep(self._key(case), asdict(row), row)

    def keep_oracle(self, condition: Condition, accuracy: float) -> None:
        """Keep the oracle's accuracy in a condition."""
        self._oracles.keep(self._oracle_key(condition), accuracy, accuracy)

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
        faults: dict[Case | Condition, BaseException] = {}
        todo: list[Case | Condition] = [*oracles, *runs]
        found_all = shared_out(todo, partial(_try, rounds=self.kept.rounds), self.workers)
        for done, (what, found) in enumerate(found_all, start=1):
            if isinstance(found, BaseException):
                # What is wrong with one run stands in its row, and ends no other.
                faults[what] = found
            elif isinstance(what, Case):
                self.kept.keep_row(what, found)
            else:
                self.kept.keep_oracle(what, found)
            self.announce(str(what), done, len(todo))
        return [self._whole(case, faults) for case in self.cases]

    def _whole(self, case: Case, faults: dict[Case | Condition, BaseException]) -> RobustnessRow:
        row, fault = self.kept.row(case), faults.get(case) or faults.get(case.condition)
        if row is None or fault is not None:
            return failed(case, fault or KeyError(case))
        return replace(row, oracle=self.kept.oracle(case.condition))


def _try(what: Case | Condition, rounds: int | None) -> Any:
    try:
        return played(what, rounds) if isinstance(what, Case) else oracle_accuracy(what, rounds)
    except FedledgerError as error:
        return error
    except Exception as error:
        # Not every error reaches another process as it is.
        return RuntimeError(f"{type(error).__name__}: {error}")


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
