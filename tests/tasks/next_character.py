"""A recurrent network that predicts the character after a stretch of text; its inputs are floats."""

import numpy as np
import torch
from torch import nn

from fedledger.learning.data import Dataset


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.recurrent = nn.Embedding(65, 16), nn.GRU(16, 32, batch_first=True)
        self.output = nn.Linear(32, 65)

    def forward(self, characters: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.recurrent(self.embedding(characters.long()))
        return self.output(hidden[:, -1])


def model() -> nn.Module:
    return Net()


def data() -> Dataset:
    text = np.cumsum(np.random.default_rng(1).integers(1, 4, 3000)) % 65
    starts = np.arange(0, len(text) - 13, 6)
    speakers = np.arange(len(starts)) * 3 // len(starts)
    stretches = text[starts[:, None] + np.arange(12)].astype(np.float32)
    return Dataset.of(stretches, text[starts + 12], speakers, classes=65)
