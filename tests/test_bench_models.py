"""The command that tries the examples, and the table that it writes."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedledger.platform.bench import models
from fedledger.platform.bench.models import DATA, Examples, ModelRow, table_cells, with_table
from fedledger.platform.cli.app import app
from fedledger.protocol.errors import ConfigError, ExitCode

ROW = ModelRow("lora", "tokens@1", "nats", 0.25, "accuracy", 0.5, 0.1, 0.2, 4_000, 1_000, 20, 3, "reproduced")


def test_one_example_is_tried_and_told_in_json(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    arguments = ["bench", "models", "--examples", "lora", "--rounds", "1", "--format", "json", "--out", str(out)]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert document == json.loads(out.read_text()) and document["left_out"] == {}
    (row,) = document["rows"]
    assert set(row) == {field.name for field in fields(ModelRow)}
    assert (row["example"], row["objective"], row["audit"]) == ("lora", "classification@1", "reproduced")
    assert row["trained"] + row["fixed"] == 307_466 and row["seconds_per_round"] > 0


def test_an_audit_that_is_not_reproduced_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = ModelRow(*[getattr(ROW, field.name) for field in fields(ModelRow)][:-1], "not reproduced: round 1")
    monkeypatch.setattr(models, "try_out", lambda name, experiment, folder: odd)
    told = CliRunner().invoke(app, ["bench", "models", "--examples", "lora", "--format", "json"])
    assert told.exit_code == ExitCode.NOT_REPRODUCED


def test_what_lacks_its_data_is_left_out_and_what_is_unknown_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATA, raising=False)
    arguments = ["bench", "models", "--examples", "heart_auc,gru_by_speaker", "--data", str(tmp_path)]
    told = CliRunner().invoke(app, [*arguments, "--format", "json"])
    left_out = {"heart_auc": "heart_disease", "gru_by_speaker": "tiny_shakespeare"}
    assert json.loads(told.stdout) == {"rows": [], "left_out": left_out}
    assert "no data set heart_disease" in told.stderr
    with pytest.raises(ConfigError, match=r"'lstm'.*lora"):
        models.try_examples(Examples.find(), ["lstm"])


def test_a_table_stands_between_its_marks() -> None:
    before = "Text.\n<!-- fedledger bench models -->\nold\n<!-- end -->\nMore.\n"
    after = with_table(before, [ROW, ROW])
    assert with_table(after, [ROW, ROW]) == after and "old" not in after
    lines = after.splitlines()
    assert lines[0] == "Text." and lines[-1] == "More."
    assert lines[2].count("|") == lines[3].count("|") == lines[4].count("|") == len(table_cells(ROW)) + 1
    assert "| nats 0.250 | accuracy 0.500 |" in lines[4] and lines[4] == lines[5]
    with pytest.raises(ConfigError, match="no place"):
        with_table("Text.", [ROW])
    with pytest.raises(ConfigError, match="--data"):
        with_table(before, [])


def test_the_document_tells_of_each_example(root: Path) -> None:
    examples = Examples.find()
    listed = (root / "examples" / "README.md").read_text()
    assert {name.split("/")[0] for name in examples.paths} == set(re.findall(r"^\| `(\w+)` \| `\w+@1`", listed, re.M))
    table = (root / "docs" / "models.md").read_text().split("<!-- fedledger bench models -->")[1]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("<!-- end -->")[0].splitlines()]
    assert {row[0] for row in rows[3:]} == set(examples.paths)
    assert all(row[-1] == "reproduced" for row in rows[3:])
