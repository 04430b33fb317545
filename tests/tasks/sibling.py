"""A task that takes its model from a module beside it, and its data from a file beside it."""

from pathlib import Path

import numpy as np
from perceptron import model as perceptron
from torch import nn

from fedledger.learning.data import Dataset


def model() -> nn.Module:
    return perceptron()


def data() -> Dataset:
    rows = np.loadtxt(Path(__file__).parent / "rows.csv", delimiter=",")
    return Dataset.of(rows[:, :64], rows[:, 64].astype(int), classes=10)
