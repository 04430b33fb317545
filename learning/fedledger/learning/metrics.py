"""What a model is worth on held-out data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fedledger.learning.vectors import FlatModel, Float32Array, single_thread
from fedledger.protocol.errors import ConfigError

BATCH = 128
"""Examples a forward pass: what a network of moderate size makes of them stays in a processor's cache."""
LOSS_CAP = 2**31 - 1
"""Largest measured loss, in micro-nats; stands for every larger or undefined one."""


@dataclass(frozen=True)
class Evaluation:
    """A model's performance on ``n`` examples.

    Attributes
    ----------
    loss
        Mean cross-entropy in nats; NaN or infinite where the model's outputs are.
    correct
        Number of examples classified correctly.
    n
        Number of examples.
    """

    loss: float
    correct: int
    n: int

    @property
    def accuracy(self) -> float:
        """Fraction of examples classified correctly."""
        return self.correct / self.n


def evaluate(
    model: FlatModel,
    vector: Float32Array,
    inputs: Float32Array,
    labels: NDArray[np.int64],
    batch: int = BATCH,
) -> Evaluation:
    """Load ``vector`` into ``model`` and evaluate it on one thread; the loss is summed in float64.

    Parameters
    ----------
    model
        Holds ``vector`` afterwards.
    vector
        float32[d].
    inputs, labels
        float32[n, ...] and int64[n], n ≥ 1.
    batch
        Examples a forward pass.

    Raises
    ------
    ConfigError
        If there is no example, or if the model's output does not suit the labels.
    """
    targets = torch.from_numpy(np.ascontiguousarray(labels))
    largest = int(labels.max(initial=0))
    loss, correct, start = 0.0, 0, 0
    # Several threads wait for each other longer than such models take: six times as long beside a busy process.
    with single_thread():
        for logits in _logits(model, vector, inputs, batch):
            wanted = targets[start : start + len(logits)]
            start += len(logits)
            if largest >= logits.shape[1]:
                raise ConfigError(
                    f"The model has {logits.shape[1]} classes, a label is {largest}.",
                    "Give the model as many classes as the data set.",
                )
            loss += float(functional.cross_entropy(logits, wanted, reduction="sum"))
            correct += int((_classes(logits) == wanted).sum())
    return Evaluation(loss / start, correct, start)


def measure(
    model: FlatModel,
    vector: Float32Array,
    inputs: Float32Array,
    labels: NDArray[np.int64],
    batch: int = BATCH,
) -> tuple[int, int]:
    """Return (mean loss in micro-nats, correct count) as the integers that a report holds.

    The loss is rounded and capped to [0, 2**31 − 1]; NaN and infinity count as the cap. See `evaluate`.
    """
    result = evaluate(model, vector, inputs, labels, batch)
    return loss_in_micro_nats(result.loss), result.correct


def loss_in_micro_nats(loss: float) -> int:
    """Round a loss in nats to micro-nats within [0, `LOSS_CAP`]; NaN and infinity give the cap."""
    if not math.isfinite(loss):
        return LOSS_CAP
    return min(max(round(loss * 1e6), 0), LOSS_CAP)


def predict(model: FlatModel, vector: Float32Array, inputs: Float32Array, batch: int = BATCH) -> NDArray[np.int64]:
    """Return int64[n] predicted classes; −1 where the model's output is NaN. See `evaluate`."""
    parts = [_classes(logits).numpy() for logits in _logits(model, vector, inputs, batch)]
    return np.concatenate(parts)


def confusion_matrix(predictions: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return int64[classes, classes]: examples of class i predicted as j; predictions of −1 are left out."""
    known = predictions >= 0
    cells = labels[known] * classes + predictions[known]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def per_class_accuracy(predictions: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return float64[classes]: the fraction of each class predicted correctly; NaN for an absent class."""
    hits = np.bincount(labels[predictions == labels], minlength=classes)
    totals = np.bincount(labels, minlength=classes).astype(np.float64)
    accuracy = np.full(classes, np.nan)
    np.divide(hits, totals, out=accuracy, where=totals > 0)
    return accuracy


def _classes(logits: torch.Tensor) -> torch.Tensor:
    # argmax takes NaN for the largest, which would make a broken model right about some class.
    return logits.argmax(1).masked_fill(logits.isnan().any(1), -1)


def _logits(model: FlatModel, vector: Float32Array, inputs: NDArray[Any], batch: int) -> Iterator[torch.Tensor]:
    """Yield float64[batch, classes]; the module's training mode is restored afterwards."""
    if not len(inputs):
        raise ConfigError("There is no example to evaluate on.", "Give a larger held-out set.")
    model.load(vector)
    training = model.module.training
    # Setting a module's mode takes longer than asking for it, and as long as a tiny model's outputs.
    switches = any(part.training for part in model.module.modules())
    if switches:
        model.module.eval()
    examples = torch.from_numpy(np.ascontiguousarray(inputs))
    try:
        for start in range(0, len(examples), batch):
            with torch.inference_mode():
                logits = model.module(examples[start : start + batch])
            if logits.ndim != 2:
                raise ConfigError(f"The model's output has shape {list(logits.shape)}.", "Make it [examples, classes].")
            yield logits.double()
    finally:
        if switches:
            model.module.train(training)
