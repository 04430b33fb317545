"""A model that returns more than its outputs."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from fedledger.learning.data import Dataset


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(8, 10, batch_first=True)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.recurrent(images[:, 0])


def model() -> nn.Module:
    return Net()


def data() -> Dataset:
    images, digits = load_digits(return_X_y=True)
    return Dataset.of(images.reshape(-1, 1, 8, 8) / 16, digits, classes=10)
