"""One class of several."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import OBJECTIVES, Batch, Evaluated, described, unsuitable
from fedledger.learning.objectives.half_pairs import all_half_pairs, half_pairs, tolerated_half_pairs
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, OneOf

KEY = "classification@1"


def cross_entropy(outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean cross-entropy of logits [n, classes] and classes int64[n], in nats."""
    return functional.cross_entropy(outputs, targets)


@OBJECTIVES.register(KEY)
@dataclass(frozen=True)
class Classification(Checked):
    """Minimises the cross-entropy of logits; the score counts the examples that are classified correctly.

    Parameters
    ----------
    score
        accuracy, or for two classes auc: the area under the curve in half pairs (Hanley and McNeil 1982), where
        examples rank by the second logit minus the first.
    """

    score: Annotated[str, OneOf(("accuracy", "auc"))] = "accuracy"

    lower_is_better = False
    loss_name = "cross-entropy (nats)"
    loss = staticmethod(cross_entropy)

    @property
    def score_name(self) -> str:
        """The score's name."""
        return "accuracy" if self.score == "accuracy" else "AUC"

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return the data set itself, if it is one of classes."""
        if dataset.classes is None or dataset.targets.dtype != np.int64 or dataset.targets.ndim != 1:
            raise unsuitable(dataset, KEY, "one class per example, int64[n]")
        if self.score == "auc" and dataset.classes != 2:
            raise ConfigError(
                f"The score auc is for two classes; the data set has {dataset.classes}.",
                'Leave out score = "auc", or make two classes of them.',
            )
        return dataset

    def check(
        self, outputs: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor, classes: int | None = None
    ) -> None:
        """Check logits [m, classes], and that no class is beyond them."""
        if targets.dtype != torch.int64 or targets.ndim != 1:
            raise ConfigError(
                f"The objective {KEY} wants one class per example; the targets are {described(targets)}.",
                "Give classes as int64[n], or name the objective that the targets suit.",
            )
        if outputs.ndim != 2 or not outputs.is_floating_point():
            raise ConfigError(
                f"The model's output is {described(outputs)}; {KEY} wants floats [examples, classes].",
                _remedy(outputs, inputs, "Return one logit a class"),
            )
        found = outputs.shape[1]
        wanted = int(targets.max()) + 1 if classes is None else classes
        if found < wanted or (classes is not None and found != classes):
            largest = f"the data set has {wanted}" if classes is not None else f"a label is {wanted - 1}"
            raise ConfigError(
                f"The model has {found} classes, {largest}.",
                _remedy(outputs, inputs, "Give the model as many classes as the data set"),
            )
        if int(targets.min()) < 0:
            raise ConfigError(f"A label is {int(targets.min())}.", "Number the classes from 0.")
        if self.score == "auc" and found != 2:
            raise ConfigError(f"The score auc is for two classes; the model has {found}.", "Give the model two.")

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        """Measure a model batch by batch."""
        losses, rights, margins, flags = [], 0, [np.empty(0)], [np.empty(0, np.bool_)]
        above, labels = [], []
        for outputs, targets, _ in batches:
            logits = outputs.double()
            losses.append(_losses(logits, targets))
            above.append(_above_mean(logits, targets))
            labels.append(targets.numpy())
            if self.score == "auc":
                margins.append((logits[:, 1] - logits[:, 0]).numpy())
                flags.append(targets.numpy() == 1)
            else:
                rights += int((classes_of(logits) == targets).sum())
        every = np.concatenate(losses)
        if self.score == "auc":
            rights = half_pairs(np.concatenate(margins), np.concatenate(flags))
        margin = _balanced(np.concatenate(above)[None], np.concatenate(labels))[0]
        return Evaluated(float(every.sum()) / len(every), rights, margin)

    def together(self, logits: torch.Tensor, targets: torch.Tensor) -> list[Evaluated]:
        """Measure several models at once, each with the bits of :meth:`measure`.

        Parameters
        ----------
        logits
            float64[models, n, classes].
        targets
            int64[n].
        """
        n = len(targets)
        wanted = targets.expand(len(logits), -1)
        losses = (_losses(logits, wanted).sum(1) / n).tolist()
        if self.score == "auc":
            margins, flags = (logits[..., 1] - logits[..., 0]).numpy(), targets.numpy() == 1
            scores = [half_pairs(row, flags) for row in margins]
        else:
            scores = (classes_of(logits) == wanted).sum(1).tolist()
        balanced = _balanced(_above_mean(logits, wanted), targets.numpy())
        return [Evaluated(*one) for one in zip(losses, scores, balanced, strict=True)]

    def full_score(self, targets: torch.Tensor) -> int:
        """Return the number of examples, or of half pairs."""
        return len(targets) if self.score == "accuracy" else all_half_pairs(int((targets == 1).sum()), len(targets))

    def tolerance(self, targets: torch.Tensor) -> int:
        """Return two examples, or what rounding may do to half pairs."""
        return 2 if self.score == "accuracy" else tolerated_half_pairs(self.full_score(targets))


CLASSIFICATION = Classification()
"""What a task has by default."""


def classes_of(logits: torch.Tensor) -> torch.Tensor:
    """Return the class of the largest logit [..., classes]; −1 where one is NaN."""
    # argmax takes NaN for the largest, which would make a broken model right about some class.
    return logits.argmax(-1).masked_fill(logits.isnan().any(-1), -1)


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> NDArray[np.float64]:
    """Return the cross-entropy of each example, float64[...], of logits float64[..., classes]."""
    losses: NDArray[np.float64] = (
        torch.log_softmax(logits, -1).gather(-1, targets.unsqueeze(-1)).squeeze(-1).neg().numpy()
    )
    return losses


def _above_mean(logits: torch.Tensor, targets: torch.Tensor) -> NDArray[np.float64]:
    """Return how far the logit of what is right is above the mean logit, float64[...], of float64[..., classes]."""
    above: NDArray[np.float64] = (logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.mean(-1)).numpy()
    return above


def _balanced(values: NDArray[np.float64], labels: NDArray[np.int64]) -> list[float]:
    """Return the mean over the classes that occur of each class's mean of float64[models, n]."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    means = np.add.reduceat(values[:, order], starts, axis=1) / counts
    return [math.fsum(row) / len(counts) for row in means.tolist()]


def _remedy(outputs: torch.Tensor, inputs: torch.Tensor, usual: str) -> str:
    """Return the usual remedy, and the one for a model whose outputs are as large as its inputs."""
    if outputs.ndim < 2 or outputs[:1].numel() != inputs[:1].numel():
        return f"{usual}."
    return f'{usual}; if it is an autoencoder, set objective = {{ method = "reconstruction@1" }} under [training].'
