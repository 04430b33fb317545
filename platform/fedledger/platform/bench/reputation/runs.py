"""Many scenarios under many models, in several processes; what is played is kept, so that one goes on from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fedledger.platform.bench.kept_lines import KeptLines
from fedledger.platform.bench.kept_runs import Announce, play_missing
from fedledger.platform.bench.reputation.experiments import Setting, configuration
from fedledger.platform.bench.reputation.figures import Case, ReputationRow, failed, row_of
from fedledger.platform.bench.reputation.models import described, model_of
from fedledger.platform.bench.reputation.playing import Play, PlayedRound, played
from fedledger.platform.bench.reputation.scenarios import scenario_of

PLAYS = "plays.jsonl"


class Run(NamedTuple):
    """What is played once, for all cases that look at it: a setting under a model."""

    model: str
    setting: Setting

    def __str__(self) -> str:
        scenario = self.setting.scenario.name
        return f"{self.model}, {scenario}, seed {self.setting.seed}"


def cases(
    models: Sequence[str], scenarios: Sequence[str], attacks: Sequence[str], seeds: Sequence[int], rounds: int
) -> list[Case]:
    """Return all cases, each once; an attack makes no difference to a scenario in which nobody attacks.

    Raises
    ------
    ConfigError
        If there is no model, scenario or attack of a name, or one cannot be played.
    """
    every = [
        Case(model, scenario, attack if scenario_of(scenario).hostile else "", seed, rounds)
        for scenario in scenarios
        for attack in attacks
        for model in models
        for seed in seeds
    ]
    chosen = list(dict.fromkeys(every))
    for model in models:
        described(model)
    for case in chosen:
        configuration(_played(case).setting)
    return chosen


@dataclass
class Campaign:
    """Runs of many cases.

    Parameters
    ----------
    cases
        The cases.
    folder
        What was played before, and where what is played is added; None: nothing is kept.
    workers
        Number of processes.
    announce
        Is told what has just been played, how much is, and how much there will be.
    """

    cases: Sequence[Case]
    folder: Path | None = None
    workers: int = 1
    announce: Announce = lambda doing, done, of: None

    def rows(self) -> list[ReputationRow]:
        """Play what is not known yet, and return all rows in the order of the cases; one that failed says why."""
        kept = KeptLines(self.folder, PLAYS, _play_of)
        # Runs that make no difference to one another are played once, under whatever name.
        runs = {_key(run): run for case in self.cases for run in (_played(case), _honest(case))}
        faults = play_missing(runs, kept, _played_run, asdict, self.workers, self.announce)
        return [self._row(case, kept, faults) for case in self.cases]

    def _row(self, case: Case, kept: KeptLines[Play], faults: dict[str, BaseException]) -> ReputationRow:
        keys = _key(_played(case)), _key(_honest(case))
        play, honest = map(kept.get, keys)
        if play is None or honest is None:
            fault = faults.get(keys[0]) or faults.get(keys[1])
            return failed(case, fault or KeyError(str(case)))
        return row_of(case, play, honest)


def _played(case: Case) -> Run:
    return Run(case.model, Setting(scenario_of(case.scenario), case.attack, case.seed, case.rounds))


def _honest(case: Case) -> Run:
    return Run(case.model, Setting(scenario_of(case.scenario).honest, "", case.seed, case.rounds))


def _key(run: Run) -> str:
    """Return what tells runs apart: their configurations, and all parameters of their models."""
    config = configuration(run.setting).model_dump(mode="json")
    document = [described(run.model), run.setting.document, config]
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
    return f"{run.model} {digest}"


def _play_of(document: dict[str, Any]) -> Play:
    rounds = [PlayedRound(**each) for each in document["rounds"]]
    return Play(rounds, float(document["accuracy"]), list(document["names"]))


def _played_run(run: Run) -> Play:
    return played(run.setting, model_of(run.model))
