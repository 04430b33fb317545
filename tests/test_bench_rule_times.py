"""The benchmark of rules beside byzfl's."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fedledger.platform.bench import rules
from fedledger.platform.bench.robustness_pipelines import expanded
from fedledger.platform.bench.rules import NAMES, OURS, PEER, Bench, Given, RuleRow, measure, table_cells
from fedledger.platform.cli.app import app
from fedledger.protocol.errors import ConfigError

SMALL = Given(rows=9, dimension=400, f=2, threads=1, repeats=1)
ROW = RuleRow("mean", OURS, 0.5, 100.0, 9, 400, 2, 1)


@pytest.mark.parametrize("name", NAMES)
def test_both_engines_run_each_rule(name: str) -> None:
    for engine in (OURS, PEER):
        kind = "torch" if engine == PEER else "numpy"
        row = measure(name, engine, SMALL, kind)
        if row.error is not None:
            row = measure(name, engine, SMALL, "numpy")
        assert row.error is None, row
        assert row.seconds is not None and row.seconds > 0


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("bucketing") and "caf" not in name])
def test_both_engines_are_asked_for_the_same(name: str) -> None:
    """Else their times would say nothing; byzfl's three steps of the geometric median are not the whole way."""
    vectors = SMALL.vectors()
    ours = rules._ours(name, SMALL)(vectors).delta / rules.FIXED.unit
    theirs = rules._theirs(name, SMALL)(vectors.copy())
    assert np.abs(ours - theirs).max() < (5e-3 if "geometric" in name else 1e-6)


def test_the_command_measures_in_processes_of_their_own(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    small = ["--vectors", "9", "--dimension", "300", "--repeats", "1", "--threads", "1"]
    told = CliRunner().invoke(app, ["bench", "rules", "--rules", "krum", *small, "--format", "json", "--out", str(out)])
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert document == json.loads(out.read_text())
    assert [(row["rule"], row["engine"]) for row in document["rows"]] == [("krum", OURS), ("krum", PEER)]
    for row in document["rows"]:
        assert set(row) == {field.name for field in fields(RuleRow)}
        assert row["error"] is None and row["seconds"] > 0 and row["peak_mb"] > 0


def test_the_table_has_ratios_and_their_geometric_mean() -> None:
    peer = replace(ROW, engine=PEER, seconds=1.0, input="torch")
    krum, other = replace(ROW, rule="krum", seconds=0.25), replace(peer, rule="krum", seconds=2.0)
    broken = replace(ROW, rule="mda", engine=PEER, seconds=None, peak_mb=None, error="no")
    cells = table_cells([ROW, peer, krum, other, replace(ROW, rule="mda"), broken])
    assert [line["times as fast"] for line in cells] == ["2.00", "8.00", "–", "4.00"]
    assert cells[0]["byzfl's input"] == "torch"


def test_what_cannot_be_measured_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = CliRunner().invoke(app, ["bench", "rules", "--rules", "best"])
    assert isinstance(told.exception, ConfigError) and "nnm+median" in told.exception.remedy
    for names, engines in ((["best"], [OURS]), (["arc+mean"], [OURS]), (["default"], [OURS]), (["mean"], ["flwr"])):
        with pytest.raises(ConfigError, match=r"There is no|is no rule"):
            Bench(SMALL, names, engines)
    monkeypatch.delitem(sys.modules, rules.PEER, raising=False)
    monkeypatch.setattr(rules, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="byzfl is not installed"):
        Bench(SMALL, ["mean"])
    Bench(SMALL, ["mean"], [OURS])


def test_more_vectors_than_all_subsets_can_be_tried_of_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(rules, "_alone", lambda work, threads: seen.append(work.args[2]) or ROW)
    list(Bench(replace(SMALL, rows=50, f=10), ["mda", "mean"], [OURS]).rows())
    assert [(given.rows, given.f) for given in seen] == [(15, 3), (50, 10)]


@pytest.mark.parametrize("name", [*expanded("rules"), "bucketing+median@1", "nnm+trimmed_mean@1(f=1)"])
def test_any_rule_can_be_timed(name: str) -> None:
    bench = Bench(replace(SMALL, rows=15), [name])
    assert measure(name, OURS, bench.given, "numpy").error is None


def test_only_ours_is_timed_of_a_rule_that_byzfl_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(rules, "_alone", lambda work, threads: seen.append(work.args[:2]) or ROW)
    list(Bench(SMALL, ["bulyan", "mean"]).rows())
    assert seen == [("bulyan", OURS), ("mean", OURS), ("mean", PEER), ("mean", PEER)]
