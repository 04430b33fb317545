"""The workloads that all engines of the comparison train: the same arrays, model, solver and rounds.

It imports nothing but numpy and torch, so that it runs in the environment of every engine.
"""

from __future__ import annotations

import csv
import gzip
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

CLIENTS = 100
PER_ROUND = 10
BATCH = 32
LEARNING_RATE = 0.1


@dataclass(frozen=True)
class Workload:
    """Data of ``CLIENTS`` clients, each with ``each`` consecutive examples, and a model.

    ``inputs`` is float32[n, ...], ``labels`` int64[n].
    """

    name: str
    each: int
    inputs: np.ndarray
    labels: np.ndarray

    def model(self) -> nn.Module:
        """Return a fresh model."""
        if self.name == "digits":
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        if self.name == "mlp":
            hidden = [nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU()]
            return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(200, 10))
        return nn.Sequential(
            *(nn.Flatten(), nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )

    def part(self, client: int) -> slice:
        """Return where a client's examples lie."""
        return slice(client * self.each, (client + 1) * self.each)


def load(name: str, digits: str | None = None) -> Workload:
    """Return a workload; ``digits`` is the file of scikit-learn's digits where scikit-learn is not installed."""
    rng = np.random.default_rng(0)
    if name == "digits":
        table = _digits(digits)[: CLIENTS * 14]
        return Workload(name, 14, (table[:, :-1] / 16).astype(np.float32), table[:, -1].astype(np.int64))
    shape = {"mlp": (784,), "cnn": (1, 28, 28)}[name]
    inputs = rng.random((CLIENTS * 600, *shape), np.float32)
    return Workload(name, 600, inputs, rng.integers(0, 10, len(inputs)))


def _digits(path: str | None) -> np.ndarray:
    if path is None:
        from importlib.metadata import distribution

        path = str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz"))
    with gzip.open(Path(path), "rt") as text:
        return np.array([[float(cell) for cell in row] for row in csv.reader(text)])


class Clock:
    """Times rounds and prints them as JSON; ``began`` is the time at which the command was started."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._rounds: list[float] = []
        self._first = 0.0

    def add(self, seconds: float) -> None:
        """Count a round."""
        self._rounds.append(seconds)
        if len(self._rounds) == 1:
            self._first = time.time() - self._began

    def report(self, about: str) -> None:
        """Print seconds of each round and of the start with the first round, with versions and processes."""
        document = {"rounds": self._rounds, "first_round_seconds": self._first, "about": about}
        print(json.dumps(document), flush=True)


def torch_alone() -> None:
    """Let torch compute on one thread."""
    torch.set_num_threads(1)
