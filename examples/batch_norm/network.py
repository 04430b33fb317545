"""The network of both tasks."""

import torch
from torch import nn


class Block(nn.Module):
    """Two convolutions and a shortcut, each normalised over the batch."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after))
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return float32[n, after, rows, columns]."""
        return torch.relu(self.second(self.first(images)) + self.shortcut(images))


def network() -> nn.Module:
    """Return a small residual network."""
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    return nn.Sequential(Block(1, 8), nn.MaxPool2d(2), Block(8, 16), *head)
