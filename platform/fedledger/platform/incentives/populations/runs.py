"""Many runs with agents, in several processes; what is played is kept, so that a comparison goes on from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fedledger.platform.bench.kept_lines import KeptLines
from fedledger.platform.bench.kept_runs import Announce, play_missing
from fedledger.platform.incentives.populations.config import Case
from fedledger.platform.incentives.populations.figures import AgentFigures, ComparisonRow, Played, PlayedRound, row_of
from fedledger.platform.incentives.populations.playing import played

PLAYS = "plays.jsonl"


@dataclass
class Comparison:
    """Runs of many cases.

    Parameters
    ----------
    cases
        The cases.
    source
        Paths in their configurations are relative to it.
    folder
        What was played before, and where what is played is added; None: nothing is kept.
    workers
        Number of processes.
    ledger
        Whether runs are played on contracts.
    announce
        Is told what has just been played, how much is, and how much there will be.
    """

    cases: Sequence[Case]
    source: Path
    folder: Path | None = None
    workers: int = 1
    ledger: bool = False
    announce: Announce = lambda doing, done, of: None

    def rows(self) -> list[ComparisonRow]:
        """Play what is not known yet, and return all rows in the order of the cases; one that failed says why."""
        kept = KeptLines(self.folder, PLAYS, read_play)
        runs = {self._key(case): case for case in self.cases}
        work = partial(_played_case, source=self.source, ledger=self.ledger)
        faults = play_missing(runs, kept, work, asdict, self.workers, self.announce)
        return [self._row(case, kept.get(self._key(case)), faults) for case in self.cases]

    def _row(self, case: Case, play: Played | None, faults: dict[str, BaseException]) -> ComparisonRow:
        if play is None:
            told = str(faults[self._key(case)])
            return ComparisonRow(case.mechanism, case.population, case.seed, error=told)
        return row_of(case, play)

    def _key(self, case: Case) -> str:
        """Return what tells plays apart: their configurations, and whether they have a ledger."""
        document = [case.config.model_dump(mode="json"), self.ledger]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]


def read_play(document: dict[str, Any]) -> Played:
    """Read a play from its JSON document."""
    rounds = [PlayedRound(**each) for each in document["rounds"]]
    agents = [AgentFigures(**each) for each in document["agents"]]
    return Played(rounds, agents, float(document["initial"]), document["stopped"])


def _played_case(case: Case, source: Path, ledger: bool) -> Played:
    return played(case.config, source, ledger)
