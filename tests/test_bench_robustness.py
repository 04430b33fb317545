"""The bench that plays attacks against pipelines: its figures, what it keeps, and the tables that it writes."""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fedledger.platform.bench import robustness_runs
from fedledger.platform.bench.attack_suite import NAMES, NONE, dead_trigger, live_trigger, suite
from fedledger.platform.bench.robustness import (
    Case,
    Condition,
    RobustnessRow,
    cases,
    configuration,
    image_shape,
    oracle_accuracy,
    played,
)
from fedledger.platform.bench.robustness_goals import judged
from fedledger.platform.bench.robustness_options import dirichlets_of, populations_of, seeds_of
from fedledger.platform.bench.robustness_pipelines import pipeline_tables
from fedledger.platform.bench.robustness_runs import ORACLES, ROWS, Campaign, Kept
from fedledger.platform.bench.robustness_tables import goal_cells, table_cells, with_tables
from fedledger.platform.cli.app import app
from fedledger.platform.engine.backends.base import Job, Work
from fedledger.platform.engine.backends.choose import open_backend
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.experiment import HONEST
from fedledger.protocol.errors import ConfigError, ExitCode

HERE = Condition("digits", 0.5, 7, 2, 31)
ROW = RobustnessRow("0.1.0", "sign_flip", "harm", "digits", 0.5, 13, 3, 31, accuracy=0.9, oracle=0.95, pay_ratio=0.2)


def test_rows_have_the_figures_of_their_run() -> None:
    row = played(Case("0.1.0", "over_claim_1e6", HERE), rounds=4)
    assert (row.kind, row.participants, row.hostile, row.seed, row.rounds) == ("no_work", 7, 2, 31, 4)
    assert row.accuracy is not None and 0 < row.accuracy < 1 and row.attack_success is None and row.pay_after is None
    assert row.pay_ratio is not None and row.pay_group is not None and row.pay_poorest is not None
    assert row.pay_ratio <= row.pay_group <= 2 * row.pay_ratio and 0 <= row.pay_poorest <= 1
    assert 0 <= (row.refused_honest or 0) < 0.5 and row.refused_hostile is not None


def test_claims_are_paid_by_the_plain_mean_and_reputations_fall_where_updates_are_refused() -> None:
    plain, judging = (played(Case(pipeline, "over_claim_1e6", HERE), rounds=6) for pipeline in ("plain", "0.1.0"))
    assert plain.pay_ratio is not None and plain.pay_ratio > 100
    assert (plain.refused_honest, plain.refused_hostile, plain.reputation_gap) == (0, 0, 0)
    noisy = played(Case("0.1.0", "noise_1", HERE), rounds=6)
    assert noisy.refused_hostile == 1 and noisy.pay_ratio == 0
    assert noisy.reputation_gap is not None and noisy.reputation_gap > 0.2
    assert judging.accuracy != plain.accuracy


def test_a_backdoor_has_its_success_and_turning_its_pay() -> None:
    row = played(Case("plain", "backdoor_dead_replacement", HERE), rounds=8)
    assert row.attack_success is not None and row.attack_success > 0.5
    peaceful = replace(HERE, hostile=0)
    nobody = played(Case("plain", NONE, peaceful), rounds=4)
    assert nobody.refused_hostile is nobody.pay_ratio is nobody.pay_group is nobody.reputation_gap is None
    turned = played(Case("0.1.0", "on_off_rider", HERE), rounds=13)
    assert turned.pay_after is not None and turned.pay_ratio is not None and turned.pay_after < turned.pay_ratio


def test_the_oracle_is_the_mean_of_those_who_are_honest() -> None:
    experiment = make_experiment(configuration(Case("plain", "sign_flip", HERE), rounds=1), Path())
    honest = [number for number, name in enumerate(experiment.behaviours) if name == HONEST]
    assert len(honest) == 5
    jobs = [Job(number) for number in honest]
    with open_backend("batched", experiment) as backend:
        trained = backend.train(Work(1, [experiment.initial.vector], jobs))
        mean = np.mean([update.delta for _, update in trained], axis=0, dtype=np.float64)
    model = experiment.initial.moved(np.asarray(experiment.initial.vector + mean, np.float32))
    assert oracle_accuracy(HERE, rounds=1) == experiment.tested(model).score


@pytest.mark.long
def test_each_attack_of_the_suite_plays_a_round() -> None:
    assert len(NAMES) >= 30 and set(NAMES) == set(suite(28, 10, 4))
    for name in NAMES:
        config = configuration(Case("plain", name, HERE if name != NONE else replace(HERE, hostile=0)), rounds=2)
        assert sum(group.count for group in config.attackers) == (0 if name == NONE else 2)
        row = played(Case("plain", name, HERE if name != NONE else replace(HERE, hostile=0)), rounds=2)
        assert row.rounds == 2 and row.accuracy is not None


def test_triggers_lie_where_there_is_ink_and_where_there_is_none() -> None:
    assert live_trigger(8).inputs == (27, 28, 35, 36) and dead_trigger(8).inputs == (0, 32, 39, 56)
    assert len(live_trigger(28).inputs) == 49 and dead_trigger(28).inputs == (0, 392, 419, 756)


def test_runs_are_kept_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    chosen = cases(["plain"], ["sign_flip", NONE], [HERE, replace(HERE, hostile=3)])
    # Where nobody attacks it does not matter how many would.
    assert len(chosen) == 3
    rows = Campaign(chosen, Kept(tmp_path, 2), announce=lambda *of: told.append(of)).rows()
    assert [row.attack for row in rows] == ["sign_flip", NONE, "sign_flip"]
    assert [(done, total) for _, done, total in told] == [(place, 6) for place in range(1, 7)]
    assert all(row.oracle is not None and row.error is None for row in rows)
    lines = {name: (tmp_path / name).read_text() for name in (ROWS, ORACLES)}
    # As if the command had been killed while it wrote.
    (tmp_path / ROWS).write_text(lines[ROWS][:-20])
    told.clear()
    assert Campaign(chosen, Kept(tmp_path, 2), announce=lambda *of: told.append(of)).rows() == rows
    assert len(told) == 1

    monkeypatch.setattr(robustness_runs, "played", lambda *of: pytest.fail("it was played before"))
    monkeypatch.setattr(robustness_runs, "oracle_accuracy", lambda *of: pytest.fail("it was found before"))
    assert Campaign(chosen, Kept(tmp_path, 2)).rows() == rows
    (tmp_path / ROWS).write_text('{"of": "x", "result": {"odd": 1}}\n')
    with pytest.raises(ConfigError, match="new folder"):
        Kept(tmp_path, 2)


def test_several_processes_find_the_same() -> None:
    chosen = cases(["0.1.0"], ["min_max", "sybil"], [HERE])
    assert Campaign(chosen, Kept(None, 2), workers=2).rows() == Campaign(chosen, Kept(None, 2)).rows()


def test_what_fails_is_named_in_its_row_and_ends_no_other(tmp_path: Path) -> None:
    file = tmp_path / "odd.toml"
    file.write_text('[training]\npipeline = "plain"\naggregation = { method = "median@1" }\n')
    broken = tmp_path / "broken.toml"
    broken.write_text('[training]\npipeline = "plain"\naggregation = { method = "nothing@1" }\n')
    chosen = cases([str(broken), str(file)], ["sign_flip"], [HERE])
    first, second = Campaign(chosen, Kept(tmp_path / "kept", 2)).rows()
    assert first.error is not None and "nothing@1" in first.error and first.accuracy is None
    assert second.error is None and second.accuracy is not None and second.pipeline == str(file)
    assert isinstance(second.oracle, float)
    # It is tried again.
    assert (tmp_path / "kept" / ROWS).read_text().count('{"of"') == 1


def test_the_command_prints_rows_and_writes_tables(tmp_path: Path) -> None:
    document = tmp_path / "robustness.md"
    document.write_text("Before.\n<!-- fedledger bench robustness -->\n<!-- end -->\nAfter.\n")
    options = "--seeds 31,32 --attacks none,rider_noise_0.1 --dirichlet .5 --populations 7-2 --rounds 2 --workers 1"
    arguments = ["bench", "robustness", *options.split(), "--pipelines", "0.1.0,plain"]
    told = CliRunner().invoke(app, [*arguments, "--format", "json", "--document", str(document)])
    assert told.exit_code == 0, told.output
    rows = json.loads(told.stdout)["rows"]
    assert len(rows) == 8 and set(rows[0]) == {field.name for field in fields(RobustnessRow)}
    assert {row["hostile"] for row in rows} == {0, 2} and {row["seed"] for row in rows} == {31, 32}
    text = document.read_text()
    assert text.startswith("Before.\n") and text.endswith("<!-- end -->\nAfter.\n")
    assert "### digits, 2 of 7 hostile" in text and "pipelines: 0.1.0 → plain" in text
    # Accuracy and pay by attack; four figures by class.
    assert text.count("| rider_noise_0.1 | no_work |") == 2 and text.count("\n| no_work |") == 4


def test_tables_show_means_and_goals_their_worst() -> None:
    worse = replace(ROW, seed=32, accuracy=0.8, pay_ratio=0.02)
    (cells,) = table_cells([ROW, worse, replace(ROW, error="it failed")])
    assert (cells["accuracy"], cells["worst"], cells["oracle"], cells["best pay"]) == (
        "0.850",
        "0.800",
        "0.950",
        "0.110",
    )
    found = {row.goal: row for row in judged([ROW, worse])}
    behind = found["accuracy behind the oracle (any run)"]
    assert behind.found == pytest.approx(0.15) and not behind.met and behind.where.endswith("seed 32")
    assert found["pay of harm (mean)"].found == pytest.approx(0.11) and not found["pay of harm (mean)"].met
    assert "success of backdoors (mean)" not in found
    assert {cells["met"] for cells in goal_cells([replace(ROW, accuracy=0.95, pay_ratio=0.1)])} == {"yes"}
    with pytest.raises(ConfigError, match="nothing to write"):
        with_tables("", [replace(ROW, error="it failed")])


def test_options_say_what_they_do_not_mean() -> None:
    assert seeds_of("31..33,7") == [31, 32, 33, 7]
    assert dirichlets_of(".1,0.5, iid") == [0.1, 0.5, None]
    assert populations_of("13-3,10-4") == [(13, 3), (10, 4)]
    for read, texts in (
        (seeds_of, ("", "x", "5..3", "1..5000", "-1")),
        (dirichlets_of, ("", "x", ".", "0", "-1", "nan")),
        (populations_of, ("", "13", "3-3", "3-0", "3-x")),
    ):
        for text in texts:
            with pytest.raises(ConfigError):
                read(text)
    with pytest.raises(ConfigError, match=r"'nobody'.*sign_flip"):
        cases(["plain"], ["nobody"], [HERE])
    with pytest.raises(ConfigError, match=r"'nothing'.*plain"):
        cases(["nothing"], [], [HERE])


@pytest.mark.parametrize(
    ("options", "pipeline", "told"),
    [
        ("", '[training]\naggregation = { method = "nothing@1" }', "no aggregation rule 'nothing@1'"),
        ("", '[training]\naggregation = { method = "trimmed_mean@1", params = { f = -1 } }', "Give a whole number"),
        ("", '[training]\nselection = { method = "uniform@1", params = { count = "x" } }', "count is 'x'"),
        ("", "[training]\nrounds = 3", "give --rounds"),
        ("", '[data]\nsource = { method = "digits@1" }', "give --data"),
        ("", '[data]\npartition = { method = "iid@1" }', "give --dirichlet"),
        ("", "participants = 3\n[[attackers]]\ncount = 1\n[ledger]", "names participants, attackers, ledger, and"),
        ("", "training = 3", "names training, and"),
        ("--populations 200-2", "", "example"),
        ("--data nowhere", "", "no folder nowhere"),
        ("--document nowhere.md", "", "nowhere.md cannot be read"),
        ("--document pipeline.toml", "", "no place for the table"),
        ("--pipelines=", "", "--pipelines is empty. Give at least one value, or leave the option out."),
        ("--attacks=", "", "--attacks is empty."),
        ("--seeds=,", "", "--seeds is empty."),
        ("--populations=", "", "--populations is empty."),
        ("--dirichlet=", "", "--dirichlet is empty."),
        ("--populations 13-0", "", "'13-0': give PARTICIPANTS-HOSTILE with 1 or more hostile and fewer than all"),
        ("--populations 13/3", "", "for nobody use --attacks none."),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_played(
    options: str, pipeline: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness_runs, "_try", lambda *of: pytest.fail("it was played"))
    monkeypatch.chdir(tmp_path)
    Path("pipeline.toml").write_text(pipeline)
    # What stands last counts.
    usual = "--seeds 31 --attacks none --populations 7-2 --rounds 2 --workers 1 --pipelines plain,pipeline.toml"
    result = CliRunner().invoke(app, ["bench", "robustness", *usual.split(), *options.split()])
    assert isinstance(result.exception, ConfigError), result.output
    assert told in str(result.exception)


def test_runs_that_fail_end_in_a_code_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness_runs, "oracle_accuracy", lambda *of: 1 / 0)
    options = "--seeds 31 --attacks none --dirichlet .5 --populations 7-2 --rounds 1 --workers 1 --pipelines plain"
    result = CliRunner().invoke(app, ["bench", "robustness", *options.split()])
    assert result.exit_code == ExitCode.FAILURE and "ZeroDivisionError" in result.output
    # The table's columns are explained.
    assert "poorest: of the poorest honest participant" in " ".join(result.output.split())


def test_images_come_from_a_folder_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, count, side = np.random.default_rng(3), 400, 12
    labels = np.arange(count) % 10
    images = rng.integers(0, 60, (count, side, side)) + 15 * labels[:, None, None]
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, header, values in (
        ("images-idx3-ubyte", struct.pack(">4i", 2051, count, side, side), images),
        ("labels-idx1-ubyte", struct.pack(">2i", 2049, count), labels),
    ):
        (folder / f"{name}.gz").write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))
    monkeypatch.setenv("FEDLEDGER_DATA", str(tmp_path))
    assert image_shape("mnist") == image_shape(str(folder)) == (side, 10)
    row = played(Case("plain", "backdoor_live_patch", replace(HERE, data="mnist", dirichlet=None)), rounds=2)
    assert row.dirichlet == "iid" and row.attack_success is not None
    image_shape.cache_clear()
    with pytest.raises(ConfigError, match="no folder"):
        image_shape(str(tmp_path / "nowhere"))
    monkeypatch.delenv("FEDLEDGER_DATA")
    assert pipeline_tables("0.1.0", 7, 2)["training"] == {"pipeline": "0.1.0"}


def test_a_condition_without_an_oracle_has_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = replace(HERE, participants=200, hostile=2)
    # Twenty examples for each of 200 participants are more than there are.
    (row,) = Campaign(cases(["plain"], ["sign_flip"], [tiny]), Kept(None, 1)).rows()
    assert row.error is not None and "example" in row.error and row.oracle is row.accuracy is None
    monkeypatch.setattr(robustness_runs, "oracle_accuracy", lambda *of: 1 / 0)
    (row,) = Campaign(cases(["plain"], ["sign_flip"], [HERE]), Kept(None, 1)).rows()
    assert row.error is not None and "division by zero" in row.error
