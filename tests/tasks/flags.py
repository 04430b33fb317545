"""Four labels that may apply at once."""

import numpy as np
from torch import nn

from fedledger.learning.data import Dataset


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))


def data() -> Dataset:
    inputs = np.random.default_rng(0).normal(size=(400, 10))
    return Dataset.of(inputs, (inputs[:, :4] > 0).astype(np.int64))
