"""Models as people bring them: each trains with and without a ledger and is reproduced, or is refused in a sentence."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.platform.bench.models import REPRODUCED, Examples, ModelRow, try_out
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.run_files import MODEL_FILE
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.platform.runs.summary import MetricsRow
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.storage.local import LocalStore
from support.quick import quick

TASKS = Path(__file__).parent / "tasks"
EXAMPLES = Examples.find()
SGD = {"learning_rate": 0.1, "momentum": 0.9, "batch_size": 32, "local_epochs": 1}
IID, NATURAL = {"method": "iid@1"}, {"method": "natural@1"}


@dataclass(frozen=True)
class Tried:
    """A task with a configuration, and how good it is to become: at least, or at most, such a score."""

    task: str
    solver: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    partition: dict[str, Any] = field(default_factory=lambda: IID)
    rounds: int = 2
    participants: int = 3
    at_least: float = 0.0
    at_most: float = 1e9

    def experiment(self, folder: Path = TASKS) -> Experiment:
        document = {
            "name": self.task,
            "participants": self.participants,
            "code": f"{self.task}.py",
            "compare_with_mean": False,
            "data": {"partition": self.partition},
            "training": {
                "pipeline": "plain",
                "rounds": self.rounds,
                "solver": {"method": "sgd@1", "params": {**SGD, **self.solver}},
                **self.training,
            },
        }
        return make_experiment(ExperimentConfig.model_validate(document), folder)


def objective(method: str, **params: Any) -> dict[str, Any]:
    return {"objective": {"method": method, "params": params}}


TRAINED = {
    "two logits from an autoencoder": Tried("anomaly_classes", training=objective("classification@1", score="auc")),
    "FedAvgM with batch normalisation": Tried("normalised", training={"optimiser": {"method": "fedavgm@1"}}),
    "inputs in thousands": Tried("unscaled", rounds=4, at_least=0.8),
    "the last batch left out": Tried("normalised", {"batch_size": 209, "drop_last": True}, rounds=4),
    "a last batch of one without it": Tried("perceptron", {"batch_size": 209}, rounds=4),
    "floats as characters": Tried("next_character", {"learning_rate": 0.5}, partition=NATURAL),
    "ids beyond 2^24": Tried("large_ids", {"learning_rate": 1.0}, rounds=3, at_least=0.9),
    "ratings as classes": Tried("ratings", {"learning_rate": 0.5}, partition=NATURAL),
    "several labels": Tried("flags", {"learning_rate": 0.5}, objective("multilabel@1"), rounds=4, at_least=0.8),
    "labels by F1": Tried("flags", training=objective("multilabel@1", score="f1")),
    "floats to predict": Tried("diabetes", {"learning_rate": 0.02}, objective("regression@1"), at_most=70.0),
    "whole numbers to predict": Tried(
        "whole_numbers", {"learning_rate": 0.02}, objective("regression@1", criterion="absolute"), at_most=70.0
    ),
    "a transformer with tied weights": Tried("last_token", {"batch_size": 64}),
    "chance in the forward pass": Tried("skipping", rounds=4, at_least=0.5),
}


def tried(case: Tried, folder: Path) -> ModelRow:
    row = try_out(case.task, case.experiment(), folder)
    assert row.audit == REPRODUCED
    assert case.at_least <= row.score <= case.at_most
    return row


@pytest.mark.parametrize("name", quick(3, TRAINED))
def test_it_trains_and_is_reproduced(name: str, tmp_path: Path) -> None:
    tried(TRAINED[name], tmp_path)


@pytest.mark.parametrize("name", quick(2, (name for name in EXAMPLES.paths if not name.startswith("batch_norm/"))))
def test_examples_train_and_are_reproduced(name: str, tmp_path: Path) -> None:
    lacking = EXAMPLES.lacks(name)
    if lacking is not None:
        pytest.skip(f"there is no data set {lacking}; FEDLEDGER_DATA names its folder")
    row = try_out(name, EXAMPLES.experiment(name, rounds=2), tmp_path)
    assert row.audit == REPRODUCED
    if name == "lora":
        assert (row.trained, row.statistics, row.fixed) == (11_530, 0, 295_936)
        assert 4 * 11_530 < row.update_bytes < 4 * 11_530 + 1_000


@pytest.mark.parametrize("name", quick(1, (name for name in EXAMPLES.paths if name.startswith("batch_norm/"))))
def test_running_statistics_stay_what_they_are(name: str, tmp_path: Path) -> None:
    """Several rounds, as momentum on the server needs some to drive a variance below zero."""
    experiment = EXAMPLES.experiment(name)
    rows: list[MetricsRow] = []
    run_without_ledger(experiment, tmp_path, "serial", watch=rows.append)
    assert [row["accepted"] for row in rows] == [4] * 8
    model = tensors.decode((tmp_path / MODEL_FILE).read_bytes())
    variances = [value for key, value in model.items() if key.endswith("running_var")]
    assert variances and all((value > 0).all() for value in variances)
    assert rows[-1]["score"] > 0.6
    assert try_out(name, EXAMPLES.experiment(name, rounds=1), tmp_path / "run").audit == REPRODUCED


REFUSED = {
    "an autoencoder as a classifier": (Tried("autoencoder"), r"64.*reconstruction@1"),
    "chance that no state holds": (Tried("wandering"), r"persistent=True"),
    "groups that are missing": (Tried("missing_groups", partition=NATURAL), r"12 examples have no group"),
    "several labels as classes": (Tried("flags"), r"classification@1.*multilabel@1"),
    "floats as classes": (Tried("diabetes"), r"classification@1.*regression@1"),
    "many whole numbers as classes": (Tried("whole_numbers"), r"regression@1"),
    "classes as tokens": (Tried("perceptron", training=objective("tokens@1")), r"tokens@1.*classification@1"),
    "two parts of an output": (Tried("returns_tuple"), r"tuple.*one tensor"),
    "numbers of sixteen bits": (Tried("half_precision"), r"bfloat16.*float32"),
    "an update beyond the limit": (
        Tried("perceptron", training={"limits": {"max_update_bytes": 5_000}}),
        r"max_update_bytes",
    ),
    "a statistic that does not exist": (Tried("perceptron", training=objective("regression@1")), r"1 number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_the_first_round(name: str) -> None:
    case, said = REFUSED[name]
    with pytest.raises(ConfigError, match=said):
        case.experiment()


@pytest.mark.parametrize("ledger", [False, True], ids=["memory", "ledger"])
@pytest.mark.parametrize("rate", [1e6, 1e30], ids=["far too fast", "not finite"])
def test_what_diverges_stops_and_says_why(rate: float, ledger: bool, tmp_path: Path) -> None:
    case = Tried("perceptron", {"learning_rate": rate}, rounds=6)
    with pytest.raises(RoundError, match=r"learning.rate"):
        played(case.experiment(), tmp_path, ledger)


@pytest.mark.parametrize("ledger", [False, True], ids=["memory", "ledger"])
def test_a_batch_of_one_that_cannot_be_normalised_has_a_remedy(ledger: bool, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"209.*drop_last"):
        played(Tried("normalised", {"batch_size": 209}).experiment(), tmp_path, ledger)


def played(experiment: Experiment, folder: Path, ledger: bool, backend: str = "serial") -> str:
    """Return the content id of the final model."""
    folder.mkdir(exist_ok=True)
    if ledger:
        finished = run(experiment, Chain(), LocalStore(folder / "store"), folder)
        return ContentRef.of(finished.final.encode()).cid
    return run_without_ledger(experiment, folder, backend, workers=2)["final_model"]


def test_what_a_forward_pass_draws_is_drawn_alike_everywhere(tmp_path: Path) -> None:
    experiment = Tried("skipping", rounds=3).experiment()
    before = np.random.get_state()[1].tolist()
    serial = played(experiment, tmp_path / "serial", ledger=False)
    assert np.random.get_state()[1].tolist() == before, "the generators of who calls are left alone"
    np.random.seed(7)
    assert played(experiment, tmp_path / "pool", ledger=False, backend="pool") == serial
    assert played(Tried("skipping", rounds=3).experiment(), tmp_path / "ledger", ledger=True) == serial


def test_a_module_and_data_beside_a_task_are_found(tmp_path: Path) -> None:
    for name in ("sibling.py", "perceptron.py"):
        shutil.copy(TASKS / name, tmp_path)
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.random((120, 64)), rng.integers(0, 10, 120)])
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",")
    assert try_out("sibling", Tried("sibling").experiment(tmp_path), tmp_path / "run").audit == REPRODUCED


STRICT = """
import sys, runpy
from safetensors.torch import load_file
for code, model in zip(sys.argv[1::2], sys.argv[2::2]):
    module = runpy.run_path(code)["model"]()
    module.load_state_dict(load_file(model), strict=True)
"""


def test_saved_models_load_strictly_into_fresh_modules_elsewhere(tmp_path: Path) -> None:
    """They are all that ``model()`` makes: tied weights, integer tables, and what is frozen."""
    tried = {
        TASKS / f"{name}.py": Tried(name, rounds=1).experiment() for name in ("normalised", "last_token", "skipping")
    }
    tried[EXAMPLES.folder / "lora" / "task.py"] = EXAMPLES.experiment("lora", 1)
    command = [sys.executable, "-c", STRICT]
    for number, (code, experiment) in enumerate(tried.items()):
        played(experiment, tmp_path / str(number), ledger=False)
        command += [str(code), str(tmp_path / str(number) / MODEL_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


@pytest.mark.long
@pytest.mark.parametrize(("task", "limit"), [("wide", None), ("wider", 150_000_000)])
def test_large_models_are_trained_and_reproduced(task: str, limit: int | None, tmp_path: Path) -> None:
    limits = {} if limit is None else {"limits": {"max_update_bytes": limit}}
    tried(Tried(task, {"batch_size": 512}, limits, rounds=1, participants=2), tmp_path)
