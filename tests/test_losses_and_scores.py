"""Losses and scores by their objective's names, wherever a run is shown; the best score is the lowest of errors."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedledger.platform.experiment import tested
from fedledger.platform.runs.compare import Comparison
from fedledger.platform.runs.curves import common_name, rounds_to
from fedledger.platform.runs.run_folder import RunRecord
from support.command_line import Call, caller

CONFIG = """
name = "errors"
participants = 3
code = "task.py"
compare_with_mean = true
[data]
partition = { method = "iid@1" }
[training]
pipeline = "plain"
rounds = 4
objective = { method = "regression@1" }
solver = { method = "sgd@1", params = { learning_rate = 0.05, local_epochs = 1 } }
detection = [{ method = "held_out@1" }]
"""
TASK = """
import numpy as np
import torch
from fedledger.learning.data import Dataset
def model():
    return torch.nn.Linear(4, 1)
def data():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 4)).astype(np.float32)
    targets = (inputs @ np.array([1, 2, 3, 4]) + 0.1 * rng.normal(size=300)).astype(np.float32)
    return Dataset.of(inputs, targets)
"""
NAME, LOSS_NAME = "mean absolute error", "squared error (scale²)"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "config.toml").write_text(CONFIG)
    return tmp_path / "config.toml"


def check_record(folder: Path) -> dict[str, Any]:
    """Check the tables of a run against each other, and return its summary."""
    summary = json.loads((folder / "run.json").read_text())
    names = summary["objective"]
    assert (names["name"], names["score_name"], names["lower_is_better"]) == ("regression@1", NAME, True)
    rows = json.loads((folder / "metrics.json").read_text())
    assert [row["round"] for row in rows] == [1, 2, 3, 4]
    assert (rows[-1]["loss"], rows[-1]["score"]) == (summary["loss"], summary["score"])
    assert rows[-1]["score"] < rows[0]["score"] and rows[-1]["loss"] < rows[0]["loss"]
    table = pd.read_csv(folder / "metrics.csv")
    assert table["score"].to_list() == pytest.approx([row["score"] for row in rows])
    assert "accuracy" not in summary and "accuracy" not in table
    record = RunRecord.read(folder)
    assert record.best_score == min(score for _, score in record.scores) and record.lower_is_better
    return dict(summary)


def test_a_run_speaks_of_its_objective(command: Call, config: Path, tmp_path: Path) -> None:
    models = set()
    for options in (("--no-ledger", "--backend", "serial"), ("--chain", "embedded", "--backend", "serial")):
        out = tmp_path / options[0]
        code, shown, progress = command("run", config, "--out", out, *options)
        assert code == 0, progress
        assert re.search(rf"test {NAME} \d\.\d", " ".join(shown.split()))
        (folder,) = out.iterdir()
        models.add(check_record(folder)["final_model"])
        texts = [shown, progress, *(path.read_text() for path in folder.glob("*.json"))]
        assert not any("accuracy" in text for text in texts)
    assert len(models) == 1
    assert f"loss, {NAME}, accepted" in progress
    page = (folder / "report.html").read_text(encoding="utf-8").split("<body")[1]
    assert f'"text":"Test {NAME}"' in page and "plain mean, no defence" in page and "accuracy" not in page
    code, shown, _ = command("audit", folder, "--trust-code", summary_code(folder), "--format", "json")
    audited = json.loads(shown)
    assert code == 0 and audited["measured"]
    assert set(audited["measurements"]) == {"largest_loss", "largest_score", "tolerance_loss", "tolerance_score"}
    _, shown, _ = command("audit", folder, "--trust-code", summary_code(folder))
    assert "millionths of the loss's unit" in " ".join(shown.split()) and "examples" not in shown


def summary_code(folder: Path) -> str:
    from fedledger.learning.code_bundle import read_code
    from fedledger.protocol.encoding.cid import ContentRef

    return ContentRef.of(read_code(folder.parents[1] / "task.py")).cid


def test_sweeps_and_comparisons_take_the_lowest_error_for_the_best(command: Call, config: Path, tmp_path: Path) -> None:
    rate, where = "training.solver.params.learning_rate", tmp_path / "sweep"
    options = ("--set", f"{rate}=0.01,0.05", "--seeds", "0..1", "--target", "3.0", "--jobs", 1, "--format", "json")
    code, shown, progress = command("sweep", config, "--out", where, *options)
    assert code == 0, progress
    document = json.loads(shown)
    assert document["score_name"] == NAME and re.search(rf"{NAME} \d\.\d", " ".join(progress.split()))
    for run in document["runs"]:
        scores = RunRecord.read(where / run["folder"]).scores
        assert run["rounds_to_target"] == next((index for index, score in scores if score <= 3.0), None)
    # Both cases are there.
    assert len({run["rounds_to_target"] is None for run in document["runs"]}) == 2
    assert f"Test {NAME}" in (where / "sweep.html").read_text(encoding="utf-8")
    folders = [where / run["folder"] for run in document["runs"]]
    (tmp_path / "compare.html").write_text("")
    code, shown, _ = command("compare", *folders, "--out", tmp_path / "compare.html", "--format", "json")
    for row, folder in zip(json.loads(shown)["runs"], folders, strict=True):
        metrics = pd.read_csv(folder / "metrics.csv")
        assert row["best_score"] == pytest.approx(metrics["score"].min()) and row["loss"] > 0
    assert f"Test {NAME}" in (tmp_path / "compare.html").read_text(encoding="utf-8")


def folder_of(path: Path, summary: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    path.mkdir()
    (path / "run.json").write_text(json.dumps(summary))
    (path / "metrics.json").write_text(json.dumps(rows))
    return path


BASIC = {"name": "old", "seed": 0, "rounds": 2, "final_model": "bafk" + "a" * 20, "seconds": 1.0}


def test_folders_that_knew_accuracies_alone_are_compared_with_others(tmp_path: Path) -> None:
    old = folder_of(
        tmp_path / "old", {**BASIC, "accuracy": 0.5}, [{"round": 1, "accuracy": 0.75}, {"round": 2, "accuracy": 0.5}]
    )
    names = {"score_name": "<b>error", "loss_name": "l", "lower_is_better": True}
    new = folder_of(
        tmp_path / "new",
        {**BASIC, "loss": None, "score": 3.0, "objective": names},
        [{"round": 1, "loss": 2.0, "score": 2.0}, {"round": 2, "loss": None, "score": 3.0}],
    )
    comparison = Comparison.read([old, new])
    rows = comparison.document()["runs"]
    assert [(row["score_name"], row["score"], row["best_score"], row["loss"]) for row in rows] == [
        ("accuracy", 0.5, 0.75, None),
        ("<b>error", 3.0, 2.0, None),
    ]
    assert [row["test score"] for row in comparison.table()] == ["0.5000", "3.0000"]
    comparison.write_page(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Test accuracy" in page and "<b>error" not in page


def test_a_loss_that_is_not_finite_is_none_in_tables_and_accuracies_have_a_column_of_their_own() -> None:
    assert tested.Tested(math.nan, 0.25).row("AUC") == {"loss": None, "score": 0.25}
    assert tested.Tested(math.inf, 0.25).row("accuracy") == {"loss": None, "score": 0.25, "accuracy": 0.25}
    assert tested.Tested(1.5, 2.0).row("error") == {"loss": 1.5, "score": 2.0}


def test_what_is_as_good_as_a_target_follows_from_the_direction() -> None:
    curve = list(enumerate(np.array([3.0, 2.0, 1.0, 2.5]), start=1))
    assert rounds_to(curve, 2.0, lower_is_better=True) == 2
    assert rounds_to(curve, 2.0) == 1
    assert rounds_to(curve, 0.5, lower_is_better=True) is None
    assert common_name(["AUC", "AUC"]) == "AUC" and common_name(["AUC", "error"]) == "score"
