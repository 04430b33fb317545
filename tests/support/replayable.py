"""Training and measuring in a process of its own, whose environment says which kernels compute.

Run as ``python -m support.replayable THREADS SOLVER``, it prints digests of updates and measurements.
"""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import torch
from torch import nn

from fedledger.learning.data import Dataset
from fedledger.learning.metrics import HeldOut, evaluate
from fedledger.learning.models.base import build_model
from fedledger.learning.objectives.classification import Classification
from fedledger.learning.objectives.regression import Regression
from fedledger.learning.replayable.measurement import ExactObjective
from fedledger.learning.vectors import FlatModel
from fedledger.node.solvers.base import BLANK
from fedledger.node.solvers.build import build_solver
from fedledger.protocol.arithmetic.random_streams import Restartable


def pseudo(count: int, seed: int) -> np.ndarray:
    """Return float32[count] in [−1, 1) of a bit generator's words, which NumPy promises to leave as they are."""
    words = np.random.PCG64(seed).random_raw(count)
    return ((words >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def tasks() -> dict[str, tuple[nn.Module, np.ndarray]]:
    """Return models with inputs: each arithmetic, and each kind of layer."""
    return {
        "perceptron": (build_model("mlp@1", {"inputs": 64, "hidden": [32], "classes": 10}), pseudo(60 * 64, 1)),
        "wide": (build_model("mlp@1", {"inputs": 100, "hidden": [150, 90], "classes": 10}), pseudo(60 * 100, 2)),
        "lenet": (build_model("lenet@1", {"image_side": 20}), pseudo(60 * 400, 3)),
        "tokens": (
            nn.Sequential(nn.Embedding(20, 16), nn.Flatten(), nn.Linear(96, 70), nn.ReLU(), nn.Linear(70, 10)),
            np.abs(pseudo(60 * 6, 4) * 20).astype(np.int64),
        ),
    }


def updates(method: str, epochs: int = 2) -> dict[str, bytes]:
    """Return each task's update after a few steps, with all options, and measurements of each trained model."""
    labels = (np.random.PCG64(9).random_raw(60) % np.uint64(10)).astype(np.int64)
    found: dict[str, bytes] = {}
    measured: list[str] = []
    for name, (module, inputs) in tasks().items():
        model = FlatModel(module)
        base = pseudo(len(model.vector()), 7) * np.float32(0.2)
        dataset = Dataset(inputs.reshape(60, -1), labels, 10)
        params = {"learning_rate": 0.1, "momentum": 0.9, "mu": 0.01, "weight_decay": 0.01, "local_epochs": epochs}
        solver = build_solver(method, params | {"batch_size": 16})
        update = solver(model, base, dataset, Restartable().restart(bytes(32)), BLANK)
        found[name] = update.delta.tobytes()
        held_out = HeldOut(dataset.inputs, labels, ExactObjective(Classification()))
        measured += [repr(evaluate(model, [base + update.delta], held_out)[0])]
    model = FlatModel(build_model("mlp@1", {"inputs": 8, "hidden": [20], "classes": 1}))
    base = pseudo(len(model.vector()), 8)
    numbers = Dataset(pseudo(400, 5).reshape(50, 8), pseudo(50, 6) * np.float32(7), None)
    objective = Regression(offset=0.3, scale=2.7)
    solver = build_solver(method, {"learning_rate": 0.1, "local_epochs": epochs})
    update = solver(model, base, numbers, Restartable().restart(bytes(32)), BLANK, objective.loss)
    found["regression"] = update.delta.tobytes()
    held_out = HeldOut(numbers.inputs, numbers.targets, ExactObjective(objective))
    measured += [repr(evaluate(model, [base + update.delta], held_out)[0])]
    return found | {"measured": "\n".join(measured).encode()}


if __name__ == "__main__":
    threads, method = sys.argv[1:]
    torch.set_num_threads(int(threads))
    for name, update in updates(method).items():
        print(name, hashlib.sha256(update).hexdigest()[:16])
