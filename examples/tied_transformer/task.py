"""A small transformer whose output layer is its embedding, with dropout and a causal mask."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedledger.learning.data import Dataset

LENGTH = 32
WIDTH = 32
CHARACTERS = 128


class TiedTransformer(nn.Module):
    """Maps characters int64[n, LENGTH] to logits [n, LENGTH, CHARACTERS]."""

    mask: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, WIDTH)
        self.positions = nn.Parameter(torch.zeros(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = nn.Linear(WIDTH, CHARACTERS, bias=False)
        self.output.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH), persistent=False)

    def forward(self, characters: torch.Tensor) -> torch.Tensor:
        """Return the logits of each next character."""
        hidden = self.encoder(self.embedding(characters) + self.positions, mask=self.mask, is_causal=True)
        return self.output(hidden)


def model() -> nn.Module:
    """Return the model."""
    return TiedTransformer()


def data() -> Dataset:
    """Return stretches of text and, of each, the characters that follow."""
    folder = Path(os.environ.get("FEDLEDGER_DATA", Path(__file__).parents[1] / "data"))
    text = (folder / "tiny_shakespeare" / "input.txt").read_bytes()[:65_537]
    numbers = np.frombuffer(text, np.uint8).astype(np.int64)
    length = (len(numbers) - 1) // LENGTH * LENGTH
    return Dataset.of(numbers[:length].reshape(-1, LENGTH), numbers[1 : length + 1].reshape(-1, LENGTH))
