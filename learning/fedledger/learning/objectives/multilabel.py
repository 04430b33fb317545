"""Several labels that an example has or has not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from torch.nn import functional

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import OBJECTIVES, PPM, Batch, Evaluated, described, unsuitable
from fedledger.learning.objectives.half_pairs import all_half_pairs, half_pairs, tolerated_half_pairs
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, OneOf

KEY = "multilabel@1"


@OBJECTIVES.register(KEY)
@dataclass(frozen=True)
class Multilabel(Checked):
    """Minimises the binary cross-entropy of one logit a label, the mean over examples and labels.

    Parameters
    ----------
    score
        auc: the half pairs of all labels' curves, added up; or f1: the micro-averaged F1 of labels whose logits are
        above 0, in ppm.
    """

    score: Annotated[str, OneOf(("auc", "f1"))] = "auc"

    lower_is_better = False
    loss_name = "binary cross-entropy (nats)"

    @property
    def score_name(self) -> str:
        """The score's name."""
        return "AUC" if self.score == "auc" else "micro-F1"

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return the data set with int64[n, labels] of zeros and ones; labels of two classes become one column."""
        targets = dataset.targets.reshape(len(dataset), -1)
        if dataset.targets.ndim > 2 or not ((targets == 0) | (targets == 1)).all():
            raise unsuitable(dataset, KEY, "zeros and ones, int64[n, labels]")
        if dataset.targets.ndim == 2 and targets.dtype == np.int64 and dataset.classes is None:
            return dataset
        return replace(dataset, targets=targets.astype(np.int64), classes=None)

    def check(
        self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor, classes: int | None = None
    ) -> None:
        """Check logits [m, labels], and that every target is 0 or 1."""
        if targets.dtype != torch.int64 or targets.ndim != 2 or not bool(((targets == 0) | (targets == 1)).all()):
            raise ConfigError(
                f"The objective {KEY} wants zeros and ones, int64[n, labels]; the targets are {described(targets)}.",
                "Give 1 for each label that an example has, else 0, or name the objective that the targets suit.",
            )
        if not outputs.is_floating_point() or outputs.ndim != 2 or outputs.shape[1] != targets.shape[1]:
            raise ConfigError(
                f"The model's output is {described(outputs)}; the examples have {targets.shape[1]} labels.",
                f"Return one logit a label, [examples, {targets.shape[1]}].",
            )

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch."""
        return functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        """Measure a model batch by batch; of its outputs, an AUC keeps all."""
        loss, count, right, wrong = 0.0, 0, 0, 0
        logits, flags = [], []
        for batch in batches:
            outputs, wanted = batch.outputs.double(), batch.targets == 1
            loss += float(functional.binary_cross_entropy_with_logits(outputs, wanted.double(), reduction="sum"))
            count += wanted.numel()
            if self.score == "auc":
                logits.append(outputs.numpy())
                flags.append(wanted.numpy())
            else:
                # A logit of NaN is wrong whatever the label.
                right += int((wanted & (outputs > 0)).sum())
                wrong += int((wanted & ~(outputs > 0)).sum()) + int((~wanted & ~(outputs <= 0)).sum())
        if self.score == "auc":
            columns = zip(np.concatenate(logits).T, np.concatenate(flags).T, strict=True)
            return Evaluated(loss / count, sum(half_pairs(scores, own) for scores, own in columns))
        return Evaluated(loss / count, 2 * PPM * right // (2 * right + wrong) if right + wrong else PPM)

    def full_score(self, targets: torch.Tensor) -> int:
        """Return the number of half pairs, or a million."""
        if self.score == "f1":
            return PPM
        return sum(all_half_pairs(flagged, len(targets)) for flagged in targets.sum(0).tolist())

    def tolerance(self, targets: torch.Tensor) -> int:
        """Return what rounding may do to half pairs, or two labels that are taken the other way.

        One of them changes 2 · TP / (2 · TP + FP + FN) by at most 2 over the number of ones.
        """
        if self.score == "auc":
            return tolerated_half_pairs(self.full_score(targets))
        return min(PPM, -(-4 * PPM // max(1, int(targets.sum()))))
