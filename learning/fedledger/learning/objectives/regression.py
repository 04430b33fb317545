"""Numbers to predict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
from torch.nn import functional

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import OBJECTIVES, PPM, Batch, Evaluated, described, unsuitable
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import AnyOf, Checked, ListOf, OneOf, Real
from fedledger.protocol.records.measurement import LOSS_CAP

KEY = "regression@1"
MAX_TARGETS = 256
"""Numbers an example up to which each gets an offset and a scale of its own."""
_OFFSET, _SCALE = Real(-1e30, 1e30), Real(1e-30, 1e30)
_NAMES = {
    "squared": "mean squared error (scale²)",
    "absolute": "mean absolute error (scale)",
    "huber": "Huber loss (scale²)",
}


@OBJECTIVES.register(KEY)
@dataclass(frozen=True)
class Regression(Checked):
    """Predicts numbers in units of their spread: a model's output o stands for offset + scale · o.

    So the loss of a model that knows nothing is about 1, whatever the targets' unit is. The score is the mean absolute
    error in millionths of the scale, and shown in the targets' unit; lower is better.

    Parameters
    ----------
    criterion
        squared, absolute or huber (Huber 1964).
    delta
        Of huber: the error, in units of scale, from which on the loss grows in proportion.
    offset
        One number, or one per target; by default the mean of the validation set's targets, which the spec then names.
    scale
        One number, or one per target; by default their standard deviation, which the spec then names.
    """

    criterion: Annotated[str, OneOf(tuple(_NAMES))] = "squared"
    delta: Annotated[float, Real(1e-6, 1e6)] = 1.0
    offset: Annotated[float | list[float] | None, AnyOf((_OFFSET, ListOf(_OFFSET, MAX_TARGETS)))] = None
    scale: Annotated[float | list[float] | None, AnyOf((_SCALE, ListOf(_SCALE, MAX_TARGETS)))] = None

    lower_is_better = True

    @property
    def score_name(self) -> str:
        """The score's name, with its unit unless that is the targets'."""
        return "mean absolute error (scale)" if isinstance(self.scale, Sequence) else "mean absolute error"

    @property
    def loss_name(self) -> str:
        """The loss's name."""
        return _NAMES[self.criterion]

    def settled(self, validation: Dataset) -> Mapping[str, Any]:
        """Return the parameters, with an offset to a thousandth of the scale, and a scale of six digits."""
        targets = validation.targets.astype(np.float64).reshape(len(validation), -1)
        if targets.shape[1] > MAX_TARGETS:
            targets = targets.reshape(-1, 1)
        # Numbers that are all the same, but for rounding, have no spread.
        spreads = targets.std(0) > 1e-6 * np.abs(targets).max(0, initial=0.0)
        deviations = zip(targets.std(0), spreads, strict=True)
        scales = [float(f"{deviation:.6g}") if spread else 1.0 for deviation, spread in deviations]
        means = zip(targets.mean(0).tolist(), scales, strict=True)
        offsets = [round(mean, 3 - math.floor(math.log10(scale))) for mean, scale in means]
        found = {
            "criterion": self.criterion,
            "offset": _single(offsets) if self.offset is None else self.offset,
            "scale": _single(scales) if self.scale is None else self.scale,
        }
        return found | ({"delta": self.delta} if self.criterion == "huber" else {})

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return the data set with float32 targets."""
        targets = dataset.targets
        if targets.ndim > 2 or targets.dtype.kind not in "fi":
            raise unsuitable(dataset, KEY, "numbers [n] or [n, k]")
        if targets.dtype == np.float32 and dataset.classes is None:
            return dataset
        return replace(dataset, targets=targets.astype(np.float32), classes=None)

    def check(
        self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor, classes: int | None = None
    ) -> None:
        """Check outputs [m], [m, 1] or [m, k], as many as there are targets an example."""
        if targets.dtype != torch.float32 or targets.ndim not in {1, 2}:
            raise ConfigError(
                f"The objective {KEY} wants float32 targets [n] or [n, k]; they are {described(targets)}.",
                "Give numbers as targets, or name the objective that they suit.",
            )
        width = 1 if targets.ndim == 1 else targets.shape[1]
        if not outputs.is_floating_point() or outputs.ndim not in {1, 2} or outputs[:1].numel() != width:
            raise ConfigError(
                f"The model's output is {described(outputs)}; {KEY} wants {width} number(s) an example, which has so "
                "many targets.",
                f"Make the model's output [examples, {width}].",
            )
        for name, value in (("offset", self.offset), ("scale", self.scale)):
            if isinstance(value, Sequence) and len(value) != width:
                raise ConfigError(
                    f"{name} has {len(value)} numbers; an example has {width} target(s).",
                    f"Give {name} one number, or one a target.",
                )

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch."""
        return self._errors(*self._scaled(outputs, targets)).mean()

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        """Measure a model batch by batch."""
        loss, distance, count = 0.0, 0.0, 0
        for outputs, targets, _ in batches:
            predicted, wanted = self._scaled(outputs.double(), targets.double())
            loss += float(self._errors(predicted, wanted).sum())
            distance += float((predicted - wanted).abs().sum())
            count += wanted.numel()
        mean = distance / count
        return Evaluated(loss / count, min(round(mean * PPM), LOSS_CAP) if np.isfinite(mean) else LOSS_CAP)

    def full_score(self, targets: torch.Tensor) -> float:
        """Return what makes a score an error in the targets' unit, or in scales where each target has its own."""
        return PPM if self.scale is None or isinstance(self.scale, Sequence) else PPM / self.scale

    def tolerance(self, targets: torch.Tensor) -> int:
        """Return as much as a loss may be off, 2,000 millionths."""
        return 2000

    def _scaled(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return outputs and targets of one shape and unit."""
        if outputs.shape != targets.shape:
            # Never by broadcasting, which would compare each output with each target.
            outputs = outputs.reshape(targets.shape)
        if self.offset is None and self.scale is None:
            return outputs, targets
        offset, scale = (tensor.to(targets) for tensor in self._format)
        return outputs, (targets - offset) / scale

    @cached_property
    def _format(self) -> tuple[torch.Tensor, torch.Tensor]:
        offset, scale = self.offset, self.scale
        return (
            torch.tensor(0.0 if offset is None else offset, dtype=torch.float64),
            torch.tensor(1.0 if scale is None else scale, dtype=torch.float64),
        )

    def _errors(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.criterion == "squared":
            return (outputs - targets).square()
        if self.criterion == "absolute":
            return (outputs - targets).abs()
        return functional.huber_loss(outputs, targets, reduction="none", delta=self.delta)


def _single(values: list[float]) -> float | list[float]:
    return values[0] if len(values) == 1 else values
