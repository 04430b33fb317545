"""Low-rank adapters (Hu et al. 2021, https://arxiv.org/abs/2106.09685) beside frozen layers."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from fedledger.learning.data import Dataset


class Adapted(nn.Module):
    """A frozen linear layer, plus a trained product of two small matrices."""

    def __init__(self, frozen: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, frozen.in_features) * 0.05)
        self.up = nn.Parameter(torch.zeros(frozen.out_features, rank))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the sum of both."""
        return self.frozen(inputs) + inputs @ self.down.T @ self.up.T


def model() -> nn.Module:
    """Return a network of two frozen layers; a pretrained one would load its weights here."""
    backbone = [Adapted(nn.Linear(64, 512)), nn.ReLU(), Adapted(nn.Linear(512, 512)), nn.ReLU()]
    return nn.Sequential(*backbone, nn.Linear(512, 10))


def data() -> Dataset:
    """Return scikit-learn's digits."""
    images, digits = load_digits(return_X_y=True)
    return Dataset.of(images / 16, digits, classes=10)
