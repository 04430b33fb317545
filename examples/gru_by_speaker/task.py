"""A recurrent network that predicts each character from those before it; every speaker is a participant."""

import os
import re
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedledger.learning.data import Dataset, Parts, Prepared

LENGTH = 40
PARTICIPANTS = 40
MOST_CHARACTERS = 4_000
CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class CharacterGRU(nn.Module):
    """Maps characters int64[n, t] to logits [n, t, characters]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS), 16)
        self.recurrent = nn.GRU(16, 64, batch_first=True)
        self.output = nn.Linear(64, len(CHARACTERS))

    def forward(self, characters: torch.Tensor) -> torch.Tensor:
        """Return the logits of each next character."""
        hidden, _ = self.recurrent(self.embedding(characters))
        return self.output(hidden)


def model() -> nn.Module:
    """Return the model."""
    return CharacterGRU()


def data() -> Prepared:
    """Return stretches of text and, of each, the characters that follow, of the most talkative speakers."""
    folder = Path(os.environ.get("FEDLEDGER_DATA", Path(__file__).parents[1] / "data"))
    text = (folder / "tiny_shakespeare" / "input.txt").read_text(encoding="utf-8")
    said: dict[str, str] = {}
    for speech in re.split(r"\n\n+", text):
        speaker, _, words = speech.partition(":\n")
        said[speaker] = said.get(speaker, "") + words + "\n"
    longest = sorted(said.values(), key=len, reverse=True)[:PARTICIPANTS]
    parts = [windows(words[:MOST_CHARACTERS]) for words in longest]
    rows = np.concatenate(parts)
    dataset = Dataset.of(rows[:, :-1], rows[:, 1:])
    return Prepared(Parts.stretches(dataset, np.cumsum([len(part) for part in parts]).tolist()))


def windows(words: str) -> np.ndarray:
    """Return a text's consecutive stretches of LENGTH + 1 characters, the last of each the first of the next."""
    numbers = np.array([CHARACTERS.index(character) for character in words])
    starts = np.arange(0, len(numbers) - LENGTH, LENGTH)
    return numbers[starts[:, None] + np.arange(LENGTH + 1)]
