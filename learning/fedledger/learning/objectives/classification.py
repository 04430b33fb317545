"""One class of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import OBJECTIVES, Evaluated
from fedledger.protocol.methods.parameters import Checked


def cross_entropy(outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean cross-entropy of logits [n, classes] and classes int64[n], in nats."""
    return functional.cross_entropy(outputs, targets)


@OBJECTIVES.register("classification@1")
@dataclass(frozen=True)
class Classification(Checked):
    """Minimises the cross-entropy of logits; the score counts the examples that are classified correctly."""

    loss_name: ClassVar[str] = "cross-entropy (nats)"
    score_name: ClassVar[str] = "accuracy"
    lower_is_better: ClassVar[bool] = False
    loss = staticmethod(cross_entropy)

    def prepared(self, dataset: Dataset) -> Dataset:
        return dataset

    def check(self, outputs: torch.Tensor, dataset: Dataset) -> None: ...

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> Evaluated:
        raise NotImplementedError

    def full_score(self, targets: torch.Tensor) -> int:
        return len(targets)

    def tolerance(self, targets: torch.Tensor) -> int:
        return 2
