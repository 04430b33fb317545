"""Sweeps: what is planned, that killing one loses and repeats nothing, and that its figures are those of the runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import checked, read_document
from fedledger.platform.runs.curves import Spread, over_seeds, rounds_to
from fedledger.platform.runs.grid import assign, parse_seeds, parse_set, plan_runs, short_names
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.platform.runs.run_folder import RunRecord
from fedledger.platform.runs.sweep import FAILED, LOCK_FILE, UNFINISHED, FailedRun, SweepOptions, run_sweep
from fedledger.protocol.errors import ConfigError
from fedledger.storage.local import LocalStore
from support.pages import figures

CONFIG = """
name = "swept"
seed = 7
participants = 3
compare_with_mean = false
model = { method = "mlp@1", params = { inputs = 64, hidden = [8], classes = 10 } }
[training]
pipeline = "plain"
rounds = 2
solver = { method = "sgd@1", params = { learning_rate = 0.1, local_epochs = 1 } }
[[attackers]]
attack = { method = "sign_flip@1" }
count = 0
"""
RATE = "training.solver.params.learning_rate"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


def command(config: Path, folder: Path, *options: str) -> list[str]:
    program = [sys.executable, "-m", "fedledger.platform.cli.app", "sweep"]
    return [*program, str(config), "--out", str(folder), "--format", "json", *options]


# What is planned


def test_every_combination_is_planned_with_every_seed(config: Path) -> None:
    runs = plan_runs(config, [f"{RATE}=0.05,0.1", "training.optimiser.method=fedavg@1,fedadam@1"], "0..2", False)
    assert len(runs) == len({run.name for run in runs}) == 12
    points = [(run.label, run.config.seed) for run in runs]
    assert points[:4] == [("learning_rate=0.05, optimiser=fedavg@1", seed) for seed in range(3)] + [
        ("learning_rate=0.05, optimiser=fedadam@1", 0)
    ]
    last = runs[-1].config
    assert (last.training.solver.params["learning_rate"], last.training.optimiser.method) == (0.1, "fedadam@1")
    assert last.training.solver.params["local_epochs"] == 1
    assert [run.config.seed for run in plan_runs(config, [], None, False)] == [7]


def test_what_is_set_is_what_the_file_would_say(config: Path) -> None:
    (run,) = plan_runs(
        config, [f"{RATE}=0.25", "attackers.0.count=1", "training.normalisation.method=fednova@1"], "3", False
    )
    document = read_document(config)
    document["training"]["solver"]["params"]["learning_rate"] = 0.25
    document["training"]["normalisation"] = {"method": "fednova@1"}
    document["attackers"][0]["count"] = 1
    assert run.config == checked({**document, "seed": 3}, "file")


def test_a_run_s_name_follows_from_what_it_is(config: Path) -> None:
    first, second = (plan_runs(config, [f"{RATE}=0.1,0.2"], "0,1", False) for _ in range(2))
    assert [run.name for run in first] == [run.name for run in second]
    assert not {run.name for run in first} & {run.name for run in plan_runs(config, [f"{RATE}=0.1,0.2"], "0,1", True)}
    config.write_text(CONFIG.replace("rounds = 2", "rounds = 3"))
    assert not {run.name for run in first} & {run.name for run in plan_runs(config, [f"{RATE}=0.1,0.2"], "0,1", False)}


def test_a_run_s_name_follows_from_the_task_s_code(config: Path) -> None:
    config.write_text('name = "own"\ncode = "task.py"\n')
    code = config.with_name("task.py")
    names = []
    for text in ("x = 1", "x = 2"):
        code.write_text(text)
        names += [run.name for run in plan_runs(config, [], None, False)]
    assert len(set(names)) == 2
    code.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        plan_runs(config, [], None, False)


@pytest.mark.parametrize(
    ("sets", "seeds", "told"),
    [
        (["training.solvr.params.x=1"], None, "training.solvr.*Did you mean 'solver'"),
        (["training.rouns=1"], None, "training.rouns.*learning|training.rouns.*Did you mean 'rounds'"),
        (["participants=zero"], None, "participants: .*integer.*participants=zero"),
        (["participants=2", "attackers.0.count=3"], None, "more attackers than participants"),
        (["participants.x=2"], None, "nothing below"),
        (["attackers.1.count=2"], None, "no element '1'"),
        (["training.rounds=1,1"], None, "twice"),
        (["training.rounds=1", "training.rounds=2"], None, "have the same key"),
        (["seed=1"], None, "--seeds"),
        (["training.rounds="], None, "sets nothing"),
        ([], "0..", "not a list of seeds"),
        ([], "5..2", "not a list of seeds"),
        ([], "1,1", "twice"),
        ([], "0..99999999", "not a list of seeds"),
    ],
)
def test_what_cannot_be_planned_is_told(config: Path, sets: list[str], seeds: str | None, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        plan_runs(config, sets, seeds, False)


def test_values_are_toml_or_words() -> None:
    assert parse_set("a.b=1, 2.5,true") == ("a.b", [1, 2.5, True])
    assert parse_set("a=mean@1,median@1") == ("a", ["mean@1", "median@1"])
    assert parse_set("a=[1, 2],[3]") == ("a", [[1, 2], [3]])
    assert parse_set('a={ method = "mean@1" },{ method = "trimmed_mean@1", params = { f = 2 } }') == (
        "a",
        [{"method": "mean@1"}, {"method": "trimmed_mean@1", "params": {"f": 2}}],
    )
    assert parse_seeds("1, 4..6") == [1, 4, 5, 6]


def test_names_are_short_and_no_two_the_same() -> None:
    assert short_names(["a.solver.params.rate", "a.optimiser.params.rate", "a.rule.method", "rounds"]) == {
        "a.solver.params.rate": "solver.params.rate",
        "a.optimiser.params.rate": "optimiser.params.rate",
        "a.rule.method": "rule",
        "rounds": "rounds",
    }


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4), st.integers())
def test_what_is_assigned_is_there_and_nothing_else_has_moved(path: list[str], value: int) -> None:
    document: dict[str, Any] = {"z": {"y": 1}, "b": None}
    assign(document, ".".join(path), value)
    place: Any = document
    for part in path:
        place = place[part]
    assert place == value and document["z"] == {"y": 1}


# What its figures are


@given(st.lists(st.floats(0, 1), max_size=8))
def test_a_spread_is_that_of_pandas(values: list[float]) -> None:
    spread, series = Spread.of(values), pd.Series(values, dtype=float)
    assert spread.n == len(series)
    expected = [series.mean(), series.std(), series.sem()]
    found = [np.nan if figure is None else figure for figure in (spread.mean, spread.sd, spread.se)]
    assert found == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_curves_of_unequal_length_are_averaged_where_they_are() -> None:
    points = over_seeds([[(1, 0.2), (2, 0.4)], [(1, 0.4)]])
    assert [(index, spread.n, spread.mean) for index, spread in points] == [(1, 2, pytest.approx(0.3)), (2, 1, 0.4)]
    assert rounds_to([(1, 0.1), (3, 0.5), (4, 0.4)], 0.5) == 3
    assert rounds_to([(1, 0.1)], 0.5) is None


def test_the_table_is_that_of_its_runs_and_each_run_is_that_of_a_run_alone(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    options = ["--set", f"{RATE}=0.05,0.2", "--seeds", "0..2", "--target", "0.2", "--jobs", "2"]
    done = subprocess.run(command(config, folder, *options), capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert document == json.loads((folder / "sweep.json").read_text())
    assert document["found"] == 0 and not document["failed"]
    table = pd.read_csv(folder / "sweep.csv")
    by_point = table.groupby(RATE, sort=False)
    score, seconds, first = (by_point[column] for column in ("score", "seconds", "rounds_to_target"))
    for place, (rate, point) in enumerate(zip((0.05, 0.2), document["points"], strict=True)):
        assert point["settings"] == {RATE: rate} and point["n"] == 3
        for name, group in (("score", score), ("seconds", seconds), ("rounds_to_target", first)):
            found = [np.nan if point[name][key] is None else point[name][key] for key in ("n", "mean", "sd", "se")]
            expected = [figures.iloc[place] for figures in (group.count(), group.mean(), group.std(), group.sem())]
            assert found == pytest.approx(expected, nan_ok=True)
    planned = plan_runs(config, [f"{RATE}=0.05,0.2"], "0..2", False)
    alone = tmp_path / "alone"
    alone.mkdir()
    one = run_without_ledger(make_experiment(planned[4].config, tmp_path), alone, "serial")
    row = document["runs"][4]
    assert [row[key] for key in ("final_model", "score", "seed")] == [one["final_model"], one["score"], 1]
    assert row["folder"] == planned[4].name
    # The plot: for each point a band, one standard deviation wide at either side of the mean over its runs.
    (traces,) = figures((folder / "sweep.html").read_text())
    assert [trace["name"] for trace in traces if "name" in trace] == [
        "learning_rate=0.05 (n = 3, ± 1 sd)",
        "learning_rate=0.2 (n = 3, ± 1 sd)",
    ]
    curves = pd.DataFrame([dict(RunRecord.read(folder / run.name).scores) for run in planned[:3]])
    low, high, mean = (np.array(trace["y"]) for trace in traces[:3])
    assert mean == pytest.approx(curves.mean().to_numpy())
    assert (high - low) / 2 == pytest.approx(curves.std().to_numpy())


# What it does about trouble


@pytest.mark.long
def test_killed_and_started_again_it_runs_what_is_missing_and_nothing_twice(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    options = ["--set", f"{RATE}=0.05,0.1", "--set", "training.rounds=30", "--seeds", "0..2", "--jobs", "2"]
    process = subprocess.Popen(command(config, folder, *options), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    runs = plan_runs(config, [f"{RATE}=0.05,0.1", "training.rounds=30"], "0..2", False)
    ended = lambda: [run.name for run in runs if (folder / run.name).is_dir()]  # noqa: E731
    deadline = time.monotonic() + 120
    while len(ended()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    before = {name: (folder / name / "run.json").stat().st_mtime_ns for name in ended()}
    assert 2 <= len(before) < 6
    for name in before:
        assert RunRecord.read(folder / name).summary["rounds"] == 30
    again = subprocess.run(command(config, folder, *options), capture_output=True, text=True, check=True)
    document = json.loads(again.stdout)
    assert len(document["runs"]) == 6
    # What was being renamed when it was killed may have ended after the look.
    assert len(before) <= document["found"] <= len(before) + 2
    after = {name: (folder / name / "run.json").stat().st_mtime_ns for name in ended()}
    assert {name: after[name] for name in before} == before and len(after) == 6
    assert sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != UNFINISHED) == sorted(after)
    for run, row in zip(runs, document["runs"], strict=True):
        alone = tmp_path / "alone" / run.name
        alone.mkdir(parents=True)
        fresh = run_without_ledger(make_experiment(run.config, tmp_path), alone, "serial")
        assert (fresh["final_model"], fresh["score"]) == (row["final_model"], row["score"])


@pytest.mark.long
def test_a_wider_sweep_runs_only_what_is_new(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    assert run_sweep(plan_runs(config, [], "0,1", False), tmp_path, folder, SweepOptions(jobs=2)).found == 0
    wider = run_sweep(plan_runs(config, [], "0..2", False), tmp_path, folder, SweepOptions(jobs=2))
    assert wider.found == 2 and [run.config.seed for run, _ in wider.done] == [0, 1, 2]
    again = run_sweep(plan_runs(config, [], "0..2", False), tmp_path, folder, SweepOptions(jobs=2))
    assert again.found == 3 and again.points() == wider.points()


def test_failed_runs_are_told_and_end_no_other(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    options = ["--set", "training.aggregation.method=mean@1,mid_range@1", "--seeds", "0,1"]
    done = subprocess.run(command(config, folder, *options), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert [run["point"] for run in document["runs"]] == ["aggregation=mean@1"] * 2
    assert [(run["point"], run["seed"]) for run in document["failed"]] == [
        ("aggregation=mid_range@1", 0),
        ("aggregation=mid_range@1", 1),
    ]
    for failure in document["failed"]:
        assert "mid_range@1" in failure["reason"] and failure["reason"] in done.stderr
        assert "Traceback" in Path(failure["details"]).read_text()
    assert len(list((folder / FAILED).iterdir())) == 2 and not list((folder / UNFINISHED).glob("*"))


def test_a_process_that_is_killed_fails_its_run_alone(config: Path, tmp_path: Path) -> None:
    config.write_text('name = "deadly"\nparticipants = 2\ncompare_with_mean = false\ncode = "task.py"\n')
    (tmp_path / "task.py").write_text(
        "import os, signal\nimport numpy as np, torch\n"
        "def model():\n    return torch.nn.Linear(4, 2)\n"
        "def data():\n"
        "    if os.path.exists('deadly'):\n"
        "        os.remove('deadly')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return np.eye(4, dtype=np.float32).repeat(30, 0), np.arange(120) % 2\n"
    )
    (tmp_path / "deadly").touch()
    done = subprocess.run(
        command(config, tmp_path / "sweep", "--seeds", "0..2", "--jobs", "1", "--set", "training.rounds=1"),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert [run["seed"] for run in document["runs"]] == [1, 2]
    assert f"signal {int(signal.SIGKILL)}" in document["failed"][0]["reason"]


@pytest.mark.long
def test_a_run_that_was_killed_goes_on_from_its_checkpoint(config: Path, tmp_path: Path) -> None:
    (run,) = plan_runs(config, ["training.rounds=4"], "1", False)
    folder, rounds = tmp_path / "sweep", []
    place = folder / UNFINISHED / run.name
    place.mkdir(parents=True)

    def kill(row: dict[str, Any]) -> None:
        rounds.append(row)
        if row["round"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_without_ledger(make_experiment(run.config, tmp_path), place, "serial", watch=kill, checkpoint_seconds=0)
    sweep = run_sweep([run], tmp_path, folder, SweepOptions())
    (record,) = (record for _, record in sweep.done)
    # What took part before the last checkpoint has the seconds of then.
    assert list(record.metrics[:2]) == rounds[:2] and len(record.metrics) == 4
    fresh = run_sweep([run], tmp_path, tmp_path / "fresh", SweepOptions())
    assert fresh.done[0][1].summary["final_model"] == record.summary["final_model"]
    assert not list((folder / run.name).glob("checkpoint*")) and not list((folder / UNFINISHED).iterdir())


def test_two_sweeps_do_not_share_a_folder(config: Path, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    folder = tmp_path / "sweep"
    folder.mkdir()
    with (folder / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="Another sweep"):
            run_sweep(plan_runs(config, [], None, False), tmp_path, folder, SweepOptions())


@pytest.mark.long
def test_with_ledgers_each_run_has_one_that_can_be_audited_where_it_is(config: Path, tmp_path: Path) -> None:
    folder, seen = tmp_path / "sweep", []
    plain, recorded = (
        run_sweep(
            plan_runs(config, [], "0,1", ledger),
            tmp_path,
            folder,
            SweepOptions(ledger),
            lambda *ended: seen.append(ended),
        )
        for ledger in (False, True)
    )
    assert [done for _, _, done in seen] == [1, 2, 1, 2]
    assert not any(isinstance(outcome, FailedRun) for _, outcome, _ in seen)
    models = [[record.summary["final_model"] for _, record in sweep.done] for sweep in (plain, recorded)]
    assert models[0] == models[1]
    for run, record in recorded.done:
        assert record.summary["gas"] > 0
        where = folder / run.name
        assert audit_run(where, LocalStore(where / "store"), frozenset(), 1).reproduced


def test_whoever_starts_a_sweep_does_not_wait_for_torch(config: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom fedledger.platform.cli import progress\n"
        "from fedledger.platform.runs import compare, grid, sweep\n"
        f"grid.plan_runs(Path({str(config)!r}), [], '0..3', False)\n"
        "assert not {'torch', 'web3', 'plotly', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
