"""Reconstruction, which finds what is unlike the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import OBJECTIVES, Batch, Evaluated, described, unsuitable
from fedledger.learning.objectives.half_pairs import all_half_pairs, half_pairs, tolerated_half_pairs
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked

KEY = "reconstruction@1"


@OBJECTIVES.register(KEY)
@dataclass(frozen=True)
class Reconstruction(Checked):
    """Minimises the squared error with which an autoencoder gives back its inputs, the mean over their numbers.

    Targets say which examples are normal (0) and which are anomalous (1); the score is the area under the curve of the
    error as a sign of anomaly, in half pairs (Hanley and McNeil 1982). Without any anomaly it is 0 of 0.

    Parameters
    ----------
    normal_only
        Whether only normal examples count in the loss.
    """

    normal_only: bool = True

    lower_is_better = False
    loss_name = "mean squared error"
    score_name = "AUC"

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return the data set itself, if its targets are 0 or 1."""
        targets = dataset.targets
        if targets.dtype != np.int64 or targets.ndim != 1 or not ((targets == 0) | (targets == 1)).all():
            raise unsuitable(dataset, KEY, "0 for each normal example and 1 for each anomaly, int64[n],")
        if dataset.inputs.dtype != np.float32:
            raise ConfigError(
                f"The inputs are {dataset.inputs.dtype}; {KEY} compares floats.", "Give the inputs as floats."
            )
        return dataset

    def check(
        self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor, classes: int | None = None
    ) -> None:
        """Check outputs as large as the inputs, [m, ...], and that an example counts in the loss."""
        if targets.dtype != torch.int64 or targets.ndim != 1 or not bool(((targets == 0) | (targets == 1)).all()):
            raise ConfigError(
                f"The objective {KEY} wants 0 for each normal example and 1 for each anomaly, int64[n].",
                "Give such targets; if nothing is known of anomalies, zeros.",
            )
        if inputs.dtype != torch.float32:
            raise ConfigError(f"The inputs are {described(inputs)}; {KEY} compares floats.", "Give them as floats.")
        shape = tuple(inputs.shape[1:])
        if not outputs.is_floating_point() or tuple(outputs.shape[1:]) not in {shape, (inputs[:1].numel(),)}:
            raise ConfigError(
                f"The model's output is {described(outputs)}, an example {list(shape)}.",
                f"Return what the model makes of each example's numbers, [examples, {str(list(shape))[1:]}.",
            )
        if self.normal_only and bool(targets.all()):
            raise ConfigError(
                "No example is normal, so none counts in the loss.",
                "Mark the normal ones 0, or set normal_only = false.",
            )

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch's examples that count; 0 if none does."""
        errors = _errors(outputs, inputs)
        if not self.normal_only:
            return errors.mean()
        is_normal = targets == 0
        return errors.where(is_normal, 0).sum() / is_normal.sum().clamp_(min=1)

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        """Measure a model batch by batch; of its outputs only the error of each example is kept."""
        parts = [(_errors(outputs.double(), inputs.double()), targets == 1) for outputs, targets, inputs in batches]
        errors, flags = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        counted = errors[~flags] if self.normal_only else errors
        loss = float(counted.sum()) / len(counted) if len(counted) else float("nan")
        return Evaluated(loss, half_pairs(errors, flags))

    def full_score(self, targets: torch.Tensor) -> int:
        """Return the number of half pairs of a normal example and an anomaly."""
        return all_half_pairs(int((targets == 1).sum()), len(targets))

    def tolerance(self, targets: torch.Tensor) -> int:
        """Return what rounding may do to half pairs."""
        return tolerated_half_pairs(self.full_score(targets))


def _errors(outputs: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of each example [n]."""
    return (outputs.flatten(1) - inputs.flatten(1)).square().mean(1)
