"""Spot checks of honest participants, over models, solvers and divisions that vary: whether any fails."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fedledger.platform.bench.processes import shared_out
from fedledger.platform.bench.spot_check_runs import Checks, WatchedRecord
from fedledger.platform.engine.backends.choose import open_backend
from fedledger.platform.engine.federation import play
from fedledger.platform.experiment.accounts import experiment_auditor
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.documents import validated
from fedledger.protocol.records.spot_checks import LEAST_AUDITORS, CommittedData, Reason, SpotChecks, Windows

PARTICIPANTS, ROUNDS = 8, 5
PERCEPTRONS = {"logistic regression": [], "perceptron": [16], "large perceptron": [256, 64]}
CONVOLUTION = "convolution"
SHARES = (0.4, 0.4, 0.1, 0.1)
"""How often each kind of model is tried: large ones take long."""
CODE = """\
import numpy as np
from fedledger.learning.data import Dataset
from sklearn.datasets import load_digits
from torch import nn


def model() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)]
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers)


def data() -> Dataset:
    table = load_digits()
    return Dataset.of((table.data / 16).astype(np.float32), table.target.astype(np.int64), classes=10)
"""
"""A task whose model convolves images of digits."""


@dataclass(frozen=True)
class HonestRun:
    """What the checks of a run came to.

    Parameters
    ----------
    seed
        From which all of it follows.
    model, momentum, windows
        What varies most: the model's kind, and whether there is momentum, and windows are replayed.
    found
        How often auditors found what.
    """

    seed: int
    model: str
    momentum: bool
    windows: bool
    found: dict[str, int]

    @property
    def failed(self) -> int:
        """How many checks did not pass."""
        return sum(self.found.values()) - self.found.get(Reason.PASSED.label, 0)


def varied(seed: int, folder: Path) -> tuple[str, Experiment]:
    """Return the kind of a model and an experiment; kind, training, data and what is replayed follow from the seed."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice([*PERCEPTRONS, CONVOLUTION], p=SHARES))
    params = {
        "learning_rate": float(rng.choice([0.01, 0.05, 0.1])),
        "momentum": float(rng.choice([0.0, 0.5, 0.9])),
        "weight_decay": float(rng.choice([0.0, 0.001])),
        "mu": float(rng.choice([0.0, 0.1])),
        "batch_size": int(rng.choice([5, 16, 32])),
        "local_epochs": int(rng.integers(1, 4)),
    }
    (folder / "task.py").write_text(CODE, encoding="utf-8")
    hidden = PERCEPTRONS.get(kind)
    # Every number of participants' examples has its own last batch.
    partition = {"method": "dirichlet@1", "params": {"alpha": float(rng.choice([0.3, 1, 10])), "min_examples": 10}}
    document = {
        "name": kind,
        "seed": seed,
        "participants": PARTICIPANTS,
        "compare_with_mean": False,
        "data": {"partition": partition},
        "training": {
            "rounds": ROUNDS,
            "solver": {"method": "replayable_sgd@1", "params": params},
            "measurement": "exact",
        },
    }
    if hidden is None:
        document["code"] = "task.py"
    else:
        document["model"] = {"method": "mlp@1", "params": {"inputs": 64, "hidden": hidden, "classes": 10}}
    experiment = make_experiment(validated(ExperimentConfig, document, kind), folder)
    windows = Windows(steps=int(rng.integers(1, 6)), drawn=int(rng.integers(1, 4))) if rng.integers(2) else None
    checks = SpotChecks(
        auditors=[experiment_auditor(seed, number) for number in range(LEAST_AUDITORS)], windows=windows
    )
    spec = experiment.spec.model_copy(update={"committed_data": CommittedData(), "spot_checks": checks})
    return kind, replace(experiment, spec=spec)


def checked(seed: int) -> HonestRun:
    """Play rounds in which all are honest, and check each update."""
    with TemporaryDirectory() as folder:
        kind, experiment = varied(seed, Path(folder))
    record, checks = WatchedRecord(experiment, range(PARTICIPANTS)), Checks(experiment)
    found: Counter[str] = Counter()
    with open_backend("batched", experiment) as backend:
        for done in play(record, backend):
            block = hashlib.sha256(f"{seed} block of round {done.index}".encode()).digest()
            for number, (context, sent) in record.sent.items():
                found[checks.reason(block, number, context, sent).label] += 1
    params = experiment.spec.solver.params
    return HonestRun(seed, kind, params["momentum"] > 0, experiment.spec.windows is not None, dict(found))


def check_honest(
    checks: int, workers: int = 1, announce: Callable[[str, int, int], None] = lambda doing, done, of: None
) -> list[HonestRun]:
    """Check at least so many updates of honest participants.

    Parameters
    ----------
    checks
        How many.
    workers
        Number of processes.
    announce
        Is told what was just checked, how many runs are, and how many there will be.
    """
    runs = range(-(-checks // (PARTICIPANTS * ROUNDS)))
    done = list[HonestRun]()
    for seed, run in shared_out(runs, checked, workers):
        if isinstance(run, BaseException):
            raise run
        done.append(run)
        announce(f"{run.model}, seed {seed}", len(done), len(runs))
    return sorted(done, key=lambda run: run.seed)


def honest_cells(runs: Sequence[HonestRun]) -> list[dict[str, object]]:
    """Return a table's rows: checks and fails of each model, with and without momentum, whole and in windows."""
    groups: dict[tuple[str, bool, bool], list[HonestRun]] = {}
    for run in runs:
        groups.setdefault((run.model, run.momentum, run.windows), []).append(run)
    return [
        {
            "model": model,
            "momentum": "yes" if momentum else "no",
            "replayed": "windows" if windows else "all",
            "runs": len(own),
            "checks": sum(sum(run.found.values()) for run in own),
            "failed": sum(run.failed for run in own),
        }
        for (model, momentum, windows), own in sorted(groups.items())
    ]
