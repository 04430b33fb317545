"""Rounds shown to TensorBoard and MLflow, read back with their own readers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedledger.platform.experiment.config import load_config
from fedledger.platform.runs.grid import plan_runs
from fedledger.platform.runs.sweep import SweepOptions, run_sweep
from fedledger.platform.runs.trackers.base import TRACKERS, tracking
from fedledger.platform.runs.trackers.live_task import LiveTask
from fedledger.platform.runs.trackers.tensorboard import TensorBoard
from fedledger.protocol.errors import ConfigError
from support.quick import quick
from support.small import write_config
from support.world import world

RUN = """
name = "tracked"
participants = 3
compare_with_mean = false
model = { method = "mlp@1", params = { inputs = 64, hidden = [8], classes = 10 } }
[training]
pipeline = "plain"
rounds = 3
"""


@pytest.fixture(autouse=True)
def no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def events(folder: Path) -> Any:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = reader.EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def mlflow_client(place: Path) -> Any:
    return pytest.importorskip("mlflow.tracking").MlflowClient(f"sqlite:///{place}")


@pytest.mark.parametrize(
    "options", quick(1, [["--chain", "embedded"], ["--no-ledger", "--backend", "serial"]]), ids=str
)
def test_both_get_every_round_of_a_run(tmp_path: Path, options: list[str]) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    (tmp_path / "config.toml").write_text(RUN)
    program = [sys.executable, "-m", "fedledger.platform.cli.app", "run", str(tmp_path / "config.toml")]
    done = subprocess.run(
        [*program, *options, "--out", str(tmp_path), "--track", "tensorboard", "--track", "mlflow", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"},
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (folder,) = tmp_path.glob("tracked-0-*")
    rows = json.loads((folder / "metrics.json").read_text())
    accumulator = events(folder)
    client = mlflow_client(tmp_path / "mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("tracked").experiment_id])
    assert len(rows) == 3
    for name in ("score", "loss", "accuracy", "accepted", "refused"):
        expected = [(row["round"], pytest.approx(row[name], abs=1e-6)) for row in rows]
        assert [(event.step, event.value) for event in accumulator.Scalars(name)] == expected
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted((metric.step, metric.value) for metric in history) == expected
    assert run.info.status == "FINISHED" and run.info.run_name == folder.name
    assert run.data.tags["fedledger.final_model"] == document["final_model"]
    assert run.data.params["training.rounds"] == "3" and run.data.params["model.params.hidden.0"] == "8"
    text = accumulator.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| training.rounds | 3 |" in text


@pytest.mark.parametrize("ledger", quick(1, [False, True]))
def test_both_get_every_round_of_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: bool) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    config, folder = tmp_path / "config.toml", tmp_path / "sweep"
    config.write_text(RUN)
    runs = plan_runs(config, [], "1,2", ledger)
    sweep = run_sweep(runs, tmp_path, folder, SweepOptions(ledger, 1, track=("tensorboard", "mlflow")))
    assert not sweep.failures
    client = mlflow_client(tmp_path / "mlflow.db")
    told = client.search_runs([client.get_experiment_by_name("tracked").experiment_id])
    assert {run.info.run_name: run.info.status for run in told} == {run.name: "FINISHED" for run in runs}
    for run, record in sweep.done:
        expected = [(index, pytest.approx(value, abs=1e-6)) for index, value in record.scores]
        assert [(event.step, event.value) for event in events(folder / run.name).Scalars("score")] == expected
        (other,) = [known for known in told if known.info.run_name == run.name]
        assert other.data.tags["fedledger.final_model"] == record.summary["final_model"]
        assert other.data.params["seed"] == str(run.config.seed)
        assert other.data.tags["fedledger.folder"] == str((folder / run.name).resolve())


def test_a_sweep_without_its_tracker_is_not_begun(tmp_path: Path) -> None:
    config, folder = tmp_path / "config.toml", tmp_path / "sweep"
    config.write_text(RUN)
    with pytest.raises(ConfigError, match="Did you mean 'tensorboard@1'"):
        run_sweep(plan_runs(config, [], "1,2", False), tmp_path, folder, SweepOptions(track=("tensorbord",)))
    assert not folder.exists()


def test_rounds_are_there_while_the_run_goes_on_and_a_failed_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    config = load_config(write_config(tmp_path))
    with (
        pytest.raises(RuntimeError, match="broken"),
        tracking(["tensorboard", "mlflow"], config, tmp_path) as tracked,
    ):
        tracked.log({"round": 4, "accuracy": 0.5, "voided": False, "chain": "none"})
        assert events(tmp_path).Tags()["scalars"] == ["accuracy"]
        assert [event.step for event in events(tmp_path).Scalars("accuracy")] == [4]
        client = mlflow_client(tmp_path / "mlflow.db")
        (run,) = client.search_runs([client.get_experiment_by_name("small").experiment_id])
        assert run.data.metrics == {"accuracy": 0.5} and run.info.status == "RUNNING"
        raise RuntimeError("broken")
    assert client.get_run(run.info.run_id).info.status == "FAILED"


def test_a_tracker_that_fails_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(TensorBoard):
        def log(self, index: int, metrics: Any) -> None:
            if index == 2:
                raise OSError("disk full")
            super().log(index, metrics)

    pytest.importorskip("tensorboard")
    monkeypatch.setitem(TRACKERS._methods, "full@1", Full)
    with tracking(["full"], load_config(write_config(tmp_path)), tmp_path) as tracked:
        for index in (1, 2, 3):
            tracked.log({"round": index, "accuracy": 0.5})
    assert [event.step for event in events(tmp_path).Scalars("accuracy")] == [1]
    assert caplog.text.count("full failed and is told nothing more: disk full") == 1


@pytest.mark.parametrize(
    ("tracker", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow.tracking")]
)
def test_one_that_is_not_installed_is_told_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    config = load_config(write_config(tmp_path))
    told = rf"{tracker} is not installed\. pip install 'fedledger\[{tracker}\]'"
    with pytest.raises(ConfigError, match=told), tracking([tracker], config, tmp_path):
        pass


def test_an_unknown_tracker_and_an_unreachable_server_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(write_config(tmp_path))
    with pytest.raises(ConfigError, match="Did you mean 'tensorboard@1'"), tracking(["tensorbord"], config, tmp_path):
        pass
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://nowhere")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"), tracking(["mlflow"], config, tmp_path):
        pass


def test_a_node_tells_of_every_settled_round_and_of_its_own_part_once(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with world(tmp_path, participants=3, rounds=3, verifiers=0, window=0) as w:
        access = w.join().people[1].access
        with tracking(["tensorboard"], access.spec, tmp_path / "tracked") as tracked:
            live = LiveTask(access, tracked)
            w.play(lambda: len(w.task.settled) == 2)
            live()
            live()
            w.play()
            live()
        final, own = w.task, access.participant
    (folder,) = {path.parent for path in (tmp_path / "tracked").rglob("*tfevents*")}
    found = reader.EventAccumulator(str(folder))
    found.Reload()
    shown = {name: [(each.step, each.value) for each in found.Scalars(name)] for name in found.Tags()["scalars"]}
    assert [step for step, _ in shown["loss"]] == [1, 2, 3] == sorted(final.rounds)
    units = [final.rounds[index].proposal.shares.get(own, 0) for index in (1, 2, 3)]  # type: ignore[union-attr, arg-type]
    assert [value for _, value in shown["own_units"]] == units
    assert all(value in (0, 1) for _, value in shown["own_accepted"]) and len(shown["own_reputation"]) == 3
