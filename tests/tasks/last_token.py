"""A transformer whose output layer is its embedding, which predicts the token after a sequence."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from fedledger.learning.data import Dataset

TOKENS, LENGTH, WIDTH = 17, 64, 16


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(TOKENS, WIDTH), nn.Parameter(torch.zeros(LENGTH, WIDTH))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 2, 32, 0.1, batch_first=True), 1)
        self.output = nn.Linear(WIDTH, TOKENS, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
        hidden = self.encoder(self.embedding(tokens.long()) + self.positions, mask=mask, is_causal=True)
        return self.output(hidden[:, -1])


def model() -> nn.Module:
    return Net()


def data() -> Dataset:
    images, digits = load_digits(return_X_y=True)
    return Dataset.of(images[:600], digits[:600], classes=TOKENS)
