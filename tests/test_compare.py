"""Comparisons of runs say what differs, and which came to the same model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.runs.compare import Comparison
from fedledger.platform.runs.ledger_run import run_with_ledger
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.protocol.errors import ConfigError
from fedledger.storage.local import LocalStore
from support.pages import figures


def play(folder: Path, ledger: bool = False, **changes: Any) -> Path:
    folder.mkdir()
    document = {
        "name": "compared",
        "participants": 3,
        "compare_with_mean": False,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [8], "classes": 10}},
        "training": {"pipeline": "plain", "rounds": 2},
        **changes,
    }
    experiment = make_experiment(ExperimentConfig.model_validate(document), folder)
    if ledger:
        run_with_ledger(experiment, folder, folder, Chain(), LocalStore(folder / "store"))
    else:
        run_without_ledger(experiment, folder, "serial")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    return [
        play(root / "plain"),
        play(root / "with ledger", ledger=True),
        play(
            root / "longer",
            training={"pipeline": "plain", "rounds": 3, "selection": {"method": "uniform@1", "params": {"count": 2}}},
        ),
        play(root / "other", seed=4, participants=4),
    ]


@pytest.mark.long
def test_the_command_says_what_differs_and_which_models_are_the_same(runs: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    command = [sys.executable, "-m", "fedledger.platform.cli.app", "compare", *map(str, runs), "--out", str(page)]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert set(document["differing"]) == {
        "participants",
        "training.rounds",
        "training.selection.method",
        "training.selection.params.count",
    }
    assert document["same_final_models"] == [[0, 1]]
    rows = document["runs"]
    assert [row["settings"]["training.selection.params.count"] for row in rows] == [None, None, 2, None]
    assert [row["ledger"] for row in rows] == [False, True, False, False]
    assert [row["gas"] is not None for row in rows] == [False, True, False, False]
    assert [row["seed"] for row in rows] == [0, 0, 0, 4]
    for row, folder in zip(rows, runs, strict=True):
        metrics = pd.DataFrame(json.loads((folder / "metrics.json").read_text()))
        assert row["best_score"] == metrics["score"].max()
        assert (row["score"], row["rounds"]) == (metrics["score"].iloc[-1], len(metrics))
    (traces,) = figures(page.read_text())
    assert [trace["name"] for trace in traces] == ["1: plain", "2: with ledger", "3: longer", "4: other"]
    assert [len(trace["x"]) for trace in traces] == [2, 2, 3, 2]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "the same as run 1" in text and "selection.params.count" not in text and "count" in text


def test_runs_without_a_configuration_are_compared_by_the_rest(runs: list[Path], tmp_path: Path) -> None:
    old = play(tmp_path / "old")
    (old / "config.json").unlink()
    document = Comparison.read([runs[0], old, runs[2]]).document()
    assert "training.rounds" in document["differing"]
    assert document["runs"][1]["settings"] is None and document["same_final_models"] == [[0, 1]]


def test_what_is_no_run_is_told(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the folder of a run"):
        Comparison.read([runs[0], tmp_path])
    with pytest.raises(ConfigError, match="twice"):
        Comparison.read([runs[0], runs[0] / ".." / runs[0].name])
