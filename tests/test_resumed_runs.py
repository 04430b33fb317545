"""A run is resumed with what it began with, or not at all: the first thing that differs is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fedledger.platform.experiment.config import ExperimentConfig, load_config
from fedledger.platform.experiment.run_files import CONFIG_FILE
from fedledger.platform.runs.run_folder import new_run_folder
from support.command_line import caller
from support.quick import quick

CONFIG = """
name = "resumed"
participants = 3
compare_with_mean = false
{model}
[data]
{source}
[training]
pipeline = "plain"
rounds = 2
solver = {{ method = "sgd@1", params = {{ learning_rate = {rate}, local_epochs = 1 }} }}
"""
TABLE = """
source = { method = "csv@1", params = { path = "rows.csv", label = "y" } }
partition = { method = "iid@1" }
"""
TASK = """
import numpy as np
from fedledger.learning.data import Dataset
from helper import net
def model():
    return net()
def data():
    rows = np.loadtxt("{folder}/rows.csv", delimiter=",", skiprows=1)
    return Dataset.of(rows[:, :3].astype(np.float32), rows[:, 3].astype(np.int64), classes=2)
"""
HELPER = "import torch\ndef net():\n    return torch.nn.Linear(3, 2)\n"
MODEL = 'model = { method = "mlp@1", params = { inputs = 3, hidden = [4], classes = 2 } }'
LEDGER, NO_LEDGER = ("--chain", "embedded"), ("--no-ledger", "--backend", "serial")


def write(folder: Path, own: bool = False, rate: float = 0.1, seed: int = 0) -> Path:
    inputs = np.random.default_rng(seed).normal(size=(90, 3)).round(3)
    rows = [",".join(map(str, [*row, int(row[0] > 0)])) for row in inputs.tolist()]
    (folder / "rows.csv").write_text("\n".join(["a,b,c,y", *rows]) + "\n")
    path = folder / "config.toml"
    model, source = ('code = "task.py"', "") if own else (MODEL, TABLE)
    path.write_text(CONFIG.format(model=model, source=source, rate=rate))
    if own:
        (folder / "task.py").write_text(TASK.format(folder=folder))
        (folder / "helper.py").write_text(HELPER)
    return path


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    call = caller(monkeypatch, capsys)

    def called(*arguments: object) -> Ended:
        return Ended(*call(*arguments))

    return called


def refused(done: Ended, *told: str) -> None:
    """Check that a run was not resumed, and what was told."""
    assert done.returncode == 3, done.stdout + done.stderr
    message = " ".join(done.stderr.split())
    for text in told:
        assert text in message


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", quick(1, [(NO_LEDGER,), (LEDGER,)], ["no ledger", "ledger"]))
def test_another_configuration_or_data_set_is_refused_and_the_same_goes_on(
    options: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    config = write(tmp_path)
    first = command("run", config, "--out", tmp_path / "runs", "--format", "json", *options)
    assert first.returncode == 0, first.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    if "--no-ledger" in options:
        # As in a run that was killed.
        (folder / "run.json").unlink()
    before = contents(folder)
    write(tmp_path, rate=0.5)
    refused(
        command("run", config, "--resume", folder, *options),
        "training.solver.params.learning_rate = 0.1",
        "has 0.5",
        "start a new run",
    )
    write(tmp_path)
    refused(command("run", config, "--resume", folder, "--seed", 7, *options), "seed = 0", "has 7")
    write(tmp_path, seed=1)
    refused(command("run", config, "--resume", folder, *options), "other data")
    assert contents(folder) == before
    write(tmp_path)
    again = command("run", config, "--resume", folder, "--format", "json", *options)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["final_model"] == json.loads(first.stdout)["final_model"]


@pytest.mark.parametrize("options", [LEDGER, NO_LEDGER], ids=["ledger", "no ledger"])
def test_changed_code_is_refused(options: tuple[str, ...], command: Command, tmp_path: Path) -> None:
    config = write(tmp_path, own=True)
    assert command("run", config, "--out", tmp_path / "runs", *options).returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    (tmp_path / "helper.py").write_text(HELPER + "# Nothing that the model follows from.\n")
    refused(command("run", config, "--resume", folder, *options), "another model or task.py")


def test_a_ledger_holds_a_run_to_its_spec_even_without_its_configuration(command: Command, tmp_path: Path) -> None:
    config = write(tmp_path)
    assert command("run", config, "--out", tmp_path / "runs", *LEDGER).returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    (folder / CONFIG_FILE).unlink()
    write(tmp_path, rate=0.5)
    done = command("run", config, "--resume", folder, *LEDGER)
    assert done.returncode == 3 and "The spec of task 1 differs" in " ".join(done.stderr.split())


def test_a_configuration_of_an_earlier_version_has_the_defaults_of_keys_that_it_did_not_know(
    command: Command, tmp_path: Path
) -> None:
    config = write(tmp_path)
    assert command("run", config, "--out", tmp_path / "runs", *NO_LEDGER).returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    written = json.loads((folder / CONFIG_FILE).read_text())
    del written["spec"], written["config"]["training"]["objective"], written["config"]["ledger"]
    (folder / CONFIG_FILE).write_text(json.dumps(written))
    assert command("run", config, "--resume", folder, *NO_LEDGER).returncode == 0
    (folder / CONFIG_FILE).write_text("[1")
    refused(command("run", config, "--resume", folder, *NO_LEDGER), "does not say what the run was made from")


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    config: ExperimentConfig = load_config(write(tmp_path))
    assert len({new_run_folder(config, tmp_path / "runs") for _ in range(5)}) == 5
