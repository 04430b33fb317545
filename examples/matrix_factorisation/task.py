"""Matrix factorisation on choices that are drawn from hidden tastes."""

import numpy as np
import torch
from torch import nn

from fedledger.learning.data import Dataset

USERS, ITEMS, CANDIDATES, CHOICES = 120, 200, 20, 40


class Factorisation(nn.Module):
    """Scores candidates: pairs of user and item int64[n, candidates, 2] to scores [n, candidates]."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(USERS, 8), nn.Embedding(ITEMS, 8)
        self.popularity = nn.Embedding(ITEMS, 1)
        for table in (self.users, self.items, self.popularity):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        """Return the inner products of users and items, plus what is general about an item."""
        user, item = pairs.unbind(-1)
        return (self.users(user) * self.items(item)).sum(-1) + self.popularity(item).squeeze(-1)


def model() -> nn.Module:
    """Return the model."""
    return Factorisation()


def data() -> Dataset:
    """Return lists of candidates, the place of the one that was chosen, and who holds the user's data."""
    rng = np.random.default_rng(3)
    tastes, features = rng.normal(size=(USERS, 3)), rng.normal(size=(ITEMS, 3))
    users = np.repeat(np.arange(USERS), CHOICES)
    items = np.stack([rng.choice(ITEMS, CANDIDATES, replace=False) for _ in users])
    liking = np.einsum("nd,nkd->nk", tastes[users], features[items])
    chosen = (liking + rng.gumbel(size=liking.shape)).argmax(axis=1)
    pairs = np.stack([np.broadcast_to(users[:, None], items.shape), items], axis=-1)
    return Dataset.of(pairs, chosen, groups=users % 10, classes=CANDIDATES)
