"""Small tasks for replayable training: both arithmetics, each kind of layer and each objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fedledger.learning.data import Dataset
from fedledger.learning.models.base import build_model
from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.objectives.regression import Regression
from fedledger.learning.objectives.tokens import PADDING, Tokens
from fedledger.learning.vectors import FlatModel

CLASSES, WORDS, LENGTH = 3, 9, 5


def perceptron(hidden: list[int], classes: int = CLASSES) -> nn.Module:
    return build_model("mlp@1", {"inputs": 7, "hidden": hidden, "classes": classes})


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.ReLU(),
        nn.Linear(5, CLASSES),
    )


def averages() -> nn.Module:
    # The squares leave rows and columns over, and most layers have no biases.
    return nn.Sequential(
        nn.Conv2d(1, 3, (3, 2), padding=(0, 1), bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.Conv2d(3, 2, 1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(2, 4, bias=False),
        nn.ReLU(),
        nn.Linear(4, CLASSES, bias=False),
    )


def table() -> nn.Module:
    return nn.Sequential(
        nn.Embedding(WORDS, 4), nn.Linear(4, 6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * LENGTH, CLASSES)
    )


def frames() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(10, CLASSES))


def tagger() -> nn.Module:
    return nn.Sequential(nn.Embedding(WORDS, 4), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, WORDS))


@dataclass(frozen=True)
class Task:
    """A model, examples, and what is minimised."""

    model: FlatModel
    dataset: Dataset
    loss: Loss


def task(name: str, n: int = 11) -> Task:
    """Return one of TASKS with n examples."""
    rng = np.random.default_rng(len(name))
    torch.manual_seed(len(name))
    return TASKS[name](rng, n)


def _labelled(make: Callable[[], nn.Module], *shape: int) -> Callable[[np.random.Generator, int], Task]:
    """Return what makes tasks of classification; without a shape, inputs are words."""

    def made(rng: np.random.Generator, n: int) -> Task:
        if shape:
            inputs: np.ndarray = rng.normal(size=(n, *shape)).astype(np.float32)
        else:
            inputs = rng.integers(0, WORDS, (n, LENGTH))
        return Task(FlatModel(make()), Dataset(inputs, rng.integers(0, CLASSES, n), CLASSES), cross_entropy)

    return made


def _tagged(rng: np.random.Generator, n: int) -> Task:
    inputs, targets = rng.integers(0, WORDS, (2, n, LENGTH))
    targets = np.where(rng.random(targets.shape) < 0.4, PADDING, targets)
    targets[: n // 4] = PADDING
    return Task(FlatModel(tagger()), Dataset(inputs, targets, None), Tokens().loss)


def _numbers(hidden: int) -> Callable[[np.random.Generator, int], Task]:
    def made(rng: np.random.Generator, n: int) -> Task:
        # Some errors are beyond what counts in full.
        targets = (rng.normal(size=(n, 2)) * 30 + 3).astype(np.float32)
        dataset = Dataset(rng.normal(size=(n, 7)).astype(np.float32), targets, None)
        return Task(FlatModel(perceptron([hidden], 2)), dataset, Regression(offset=[3.0, 2.9], scale=2.7).loss)

    return made


TASKS: dict[str, Callable[[np.random.Generator, int], Task]] = {
    "small": _labelled(lambda: perceptron([6, 5]), 7),
    "wide": _labelled(lambda: perceptron([300]), 7),
    "convolutions": _labelled(convolutions, 2, 8, 8),
    "averages": _labelled(averages, 1, 12, 10),
    "frames": _labelled(frames, LENGTH, 4),
    "table": _labelled(table),
    "tags": _tagged,
    "numbers in doubles": _numbers(6),
    "numbers in float32": _numbers(300),
}
