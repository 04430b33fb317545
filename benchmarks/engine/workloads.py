"""The workloads that all engines of the comparison train: the same arrays, model, solver and rounds.

It imports nothing but numpy and torch, so that it runs in the environment of every engine.
"""

from __future__ import annotations

import csv
import gzip
import heapq
import json
import os
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

CLIENTS = 100
PER_ROUND = 10
SPEAKERS = 400
STRETCH = 40
"""Characters that a recurrent network reads at once."""
CHARACTERS = 65
DATA = "FEDLEDGER_DATA"
"""Environment variable with a folder of data sets: ``tiny_shakespeare/input.txt`` is looked for in it."""


class Recurrent(nn.Module):
    """Predicts each character from those before it: int64[n, t] to logits [n, t, ``CHARACTERS``]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, 16)
        self.recurrent = nn.GRU(16, 64, batch_first=True)
        self.output = nn.Linear(64, CHARACTERS)

    def forward(self, characters: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.output(self.recurrent(self.embedding(characters))[0])


@dataclass(frozen=True)
class Workload:
    """Data of clients, each with consecutive examples, and a model.

    ``inputs`` is float32[n, ...] and ``labels`` int64[n], or both are int64[n, t]; ``ends`` says where each client's
    examples end.
    """

    name: str
    ends: list[int]
    inputs: np.ndarray
    labels: np.ndarray
    batch: int = 32
    learning_rate: float = 0.1

    @property
    def clients(self) -> int:
        """How many clients there are."""
        return len(self.ends)

    def model(self) -> nn.Module:
        """Return a fresh model."""
        if self.name == "gru":
            return Recurrent()
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
        return slice(self.ends[client - 1] if client else 0, self.ends[client])

    def chosen(self) -> Iterator[list[int]]:
        """Yield the clients of each round: the same for the floor and for us, as clients may differ in size."""
        chooser = random.Random(0)
        while True:
            yield chooser.sample(range(self.clients), PER_ROUND)

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(outputs.flatten(0, -2), labels.flatten())


def load(name: str, digits: str | None = None) -> Workload:
    """Return a workload; ``digits`` is the file of scikit-learn's digits where scikit-learn is not installed."""
    rng = np.random.default_rng(0)
    if name == "digits":
        table = _digits(digits)[: CLIENTS * 14]
        inputs, labels = (table[:, :-1] / 16).astype(np.float32), table[:, -1].astype(np.int64)
        return Workload(name, even(14), inputs, labels)
    if name == "gru":
        read, following, ends = stretches(speeches())
        return Workload(name, ends, read, following, batch=10, learning_rate=0.5)
    shape = {"mlp": (784,), "cnn": (1, 28, 28)}[name]
    inputs = rng.random((CLIENTS * 600, *shape), np.float32)
    return Workload(name, even(600), inputs, rng.integers(0, 10, len(inputs)))


def even(each: int) -> list[int]:
    """Return where the examples of ``CLIENTS`` clients end that have so many each."""
    return list(range(each, each * CLIENTS + 1, each))


def speeches() -> list[str]:
    """Return what each of ``SPEAKERS`` speakers says, the longest first; without the text, noise of such lengths.

    There are fewer speakers in it, so what the most talkative say is halved until there are as many.
    """
    folder = os.environ.get(DATA)
    if folder is None:
        lengths = np.random.default_rng(0).lognormal(7.45, 0.9, SPEAKERS).astype(int)
        return ["x" * (2 * STRETCH + length) for length in sorted(lengths, reverse=True)]
    said: dict[str, str] = {}
    for speech in re.split(r"\n\n+", Path(folder, "tiny_shakespeare", "input.txt").read_text(encoding="utf-8")):
        speaker, _, words = speech.partition(":\n")
        said[speaker] = said.get(speaker, "") + words + "\n"
    heap = [(-len(words), words) for words in said.values() if len(words) > STRETCH + 1]
    heapq.heapify(heap)
    while len(heap) < SPEAKERS:
        _, words = heapq.heappop(heap)
        for half in (words[: len(words) // 2], words[len(words) // 2 :]):
            heapq.heappush(heap, (-len(half), half))
    return [words for _, words in sorted(heap)][:SPEAKERS]


def stretches(said: list[str]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return the characters that are read and those that follow them, int64[n, ``STRETCH``], and where speakers end."""
    known = sorted(set("".join(said)))
    rng = np.random.default_rng(0)
    rows, ends = [], [0]
    for words in said:
        numbers = np.searchsorted(known, list(words)) if len(known) > 1 else rng.integers(0, CHARACTERS, len(words))
        count = (len(numbers) - 1) // STRETCH
        places = np.arange(count)[:, None] * STRETCH + np.arange(STRETCH + 1)
        rows.append(numbers[places])
        ends.append(ends[-1] + count)
    together = np.concatenate(rows).astype(np.int64)
    return together[:, :-1].copy(), together[:, 1:].copy(), ends[1:]


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
