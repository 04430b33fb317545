"""An autoencoder that says how anomalous an example is by two logits: minus its error, and a margin."""

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from fedledger.learning.data import Dataset


class Anomaly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 30))
        self.margin = nn.Parameter(torch.tensor(1.0))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        error = (self.inner(inputs) - inputs).square().mean(1)
        return torch.stack([-error, -self.margin.expand_as(error)], 1)


def model() -> nn.Module:
    return Anomaly()


def data() -> Dataset:
    inputs, benign = load_breast_cancer(return_X_y=True)
    return Dataset.of((inputs - inputs.mean(0)) / inputs.std(0), 1 - benign, classes=2)
