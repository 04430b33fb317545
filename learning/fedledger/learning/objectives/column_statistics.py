"""Means and spreads of columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import OBJECTIVES, PPM, Batch, Evaluated, described, unsuitable
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked
from fedledger.protocol.records.measurement import LOSS_CAP

KEY = "column_statistics@1"


@OBJECTIVES.register(KEY)
@dataclass(frozen=True)
class ColumnStatistics(Checked):
    """Describes the known numbers x of each column by a mean m and a spread s.

    The loss is the mean of (x - m)² + ((x - m)² - s²)² over the known numbers, which is least where m is their mean and
    s their standard deviation. Targets are 1 where a number is known and 0 where it is missing. The score is the mean
    of (x - m)² in millionths; lower is better.
    """

    lower_is_better = True
    loss_name = "error of means and spreads"
    score_name = "squared distance from the means"

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return the data set itself, if its targets say which inputs are known."""
        inputs, targets = dataset.inputs, dataset.targets
        suits = targets.dtype == np.float32 and inputs.dtype == np.float32 and targets.shape == inputs.shape
        if not suits or not ((targets == 0) | (targets == 1)).all():
            raise unsuitable(dataset, KEY, "a data schema of statistics, with 1 for each known input and 0 for others")
        return dataset

    def check(
        self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor, classes: int | None = None
    ) -> None:
        """Check outputs [m, 2, k], of which the first k are means, for inputs and targets [n, k]."""
        if targets.dtype != torch.float32 or targets.shape != inputs.shape or targets.ndim != 2:
            raise ConfigError(
                f"The targets are {described(targets)} for inputs {described(inputs)}; {KEY} wants as many of each.",
                "Give the task a data schema of statistics.",
            )
        if not bool(((targets == 0) | (targets == 1)).all()):
            raise ConfigError(f"The targets of {KEY} are 0 and 1.", "Give the task a data schema of statistics.")
        if not outputs.is_floating_point() or tuple(outputs.shape[1:]) != (2, inputs.shape[1]):
            raise ConfigError(
                f"The model's output is {described(outputs)} for inputs {described(inputs)}.",
                f'Use the model of this objective: {{ method = "{KEY}", params = {{ columns = {inputs.shape[1]} }} }}.',
            )

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch's known numbers; 0 if there is none."""
        distances, errors = _sums(outputs, targets, inputs)
        return (distances + errors) / targets.sum().clamp_(min=1)

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        """Measure a model batch by batch."""
        distance, error, count = 0.0, 0.0, 0.0
        for outputs, targets, inputs in batches:
            own = _sums(outputs.double(), targets.double(), inputs.double())
            distance, error = distance + float(own[0]), error + float(own[1])
            count += float(targets.sum(dtype=torch.float64))
        mean = distance / max(1.0, count)
        score = min(round(mean * PPM), LOSS_CAP) if np.isfinite(mean) else LOSS_CAP
        return Evaluated((distance + error) / max(1.0, count), score)

    def full_score(self, targets: torch.Tensor) -> float:
        """Return what makes of a score a squared distance."""
        return PPM

    def tolerance(self, targets: torch.Tensor) -> int:
        """Return as much as a loss may be off, 2,000 millionths."""
        return 2000


def _sums(outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums of squared distances from the means, and of their squared distances from squared spreads."""
    distances = (inputs - outputs[:, 0]).square()
    errors = (distances - outputs[:, 1].square()).square()
    return (distances * targets).sum(), (errors * targets).sum()
