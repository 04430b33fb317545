"""Matrix factorisation of ratings as classes."""

import numpy as np
import torch
from torch import nn

from fedledger.learning.data import Dataset

USERS, ITEMS = 60, 100


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items, self.output = nn.Embedding(USERS, 8), nn.Embedding(ITEMS, 8), nn.Linear(1, 5)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        user, item = pairs[:, 0].long(), pairs[:, 1].long()
        return self.output((self.users(user) * self.items(item)).sum(1, keepdim=True))


def model() -> nn.Module:
    return Net()


def data() -> Dataset:
    rng = np.random.default_rng(3)
    tastes, features = rng.normal(size=(USERS, 3)), rng.normal(size=(ITEMS, 3))
    pairs = np.stack([rng.integers(USERS, size=2000), rng.integers(ITEMS, size=2000)], 1)
    liking = np.rint(3 + (tastes[pairs[:, 0]] * features[pairs[:, 1]]).sum(1))
    return Dataset.of(pairs.astype(np.float32), np.clip(liking, 1, 5).astype(int) - 1, pairs[:, 0] % 3, classes=5)
