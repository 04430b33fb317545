"""Statistics of columns as a model."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import nn

from fedledger.learning.models.base import MODELS
from fedledger.protocol.methods.parameters import Whole


@MODELS.register("column_statistics@1")
def column_statistics(columns: Annotated[int, Whole(1, 2**20)]) -> nn.Module:
    """Return a mean and a spread of each column, which is all that it makes of any example.

    Parameters
    ----------
    columns
        Numbers of an example.
    """
    return _ColumnStatistics(columns)


class _ColumnStatistics(nn.Module):
    def __init__(self, columns: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(columns))
        self.spread = nn.Parameter(torch.zeros(columns))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.stack((self.mean, self.spread)).expand(len(inputs), -1, -1)
