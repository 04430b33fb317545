"""What a model is worth on held-out data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from fedledger.learning.fast.convolution_patches import ConvolutionPatches, first_layers
from fedledger.learning.vectors import FlatModel, Float32Array, single_thread
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.measurement import LOSS_CAP

BATCH = 128
"""Examples a forward pass: what a network of moderate size makes of them stays in a processor's cache."""


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


class HeldOut:
    """Examples on which models are evaluated.

    Parameters
    ----------
    inputs, labels
        float32[n, ...] and int64[n], n ≥ 1.

    Raises
    ------
    ConfigError
        If there is no example.
    """

    def __init__(self, inputs: Float32Array, labels: NDArray[np.int64]) -> None:
        if not len(inputs):
            raise ConfigError("There is no example to evaluate on.", "Give a larger held-out set.")
        self.inputs = torch.from_numpy(np.ascontiguousarray(inputs))
        self.labels = torch.from_numpy(np.ascontiguousarray(labels))
        self.largest = int(labels.max())
        self._patches: WeakKeyDictionary[torch.nn.Module, ConvolutionPatches | None] = WeakKeyDictionary()
        self._shared: dict[str, ConvolutionPatches | None] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def patches(self, module: torch.nn.Module) -> ConvolutionPatches | None:
        """Return what a module sees first, where it pays to keep that; it is kept once for all that see the same."""
        if module not in self._patches:
            layers = first_layers(module)
            kind = repr(layers)
            if kind not in self._shared:
                self._shared[kind] = ConvolutionPatches.of(layers, self.inputs)
            self._patches[module] = self._shared[kind]
        return self._patches[module]


def evaluate(
    model: FlatModel, vectors: Sequence[Float32Array], held_out: HeldOut, batch: int = BATCH
) -> list[Evaluation]:
    """Load each vector into ``model`` and evaluate it on one thread; losses are summed in float64.

    What a vector gives does not depend on those beside it: only the forward passes differ, and they are each one's own.

    Parameters
    ----------
    model
        Holds the last one of ``vectors`` afterwards.
    vectors
        float32[d] each.
    held_out
        The n examples.
    batch
        Examples a forward pass.

    Raises
    ------
    ConfigError
        If the model's output does not suit the labels.
    """
    if not vectors:
        return []
    # Several threads wait for each other longer than such models take: six times as long beside a busy process.
    with single_thread(), _evaluating(model.module):
        patches = held_out.patches(model.module)
        logits = torch.stack(_outputs(model, vectors, held_out.inputs, batch, patches)).double()
        if held_out.largest >= logits.shape[2]:
            raise ConfigError(
                f"The model has {logits.shape[2]} classes, a label is {held_out.largest}.",
                "Give the model as many classes as the data set.",
            )
        wanted = held_out.labels.expand(len(vectors), -1)
        losses = torch.log_softmax(logits, 2).gather(2, wanted.unsqueeze(2)).squeeze(2).neg().numpy().sum(1)
        correct = (_classes(logits) == wanted).sum(1)
    n = len(held_out)
    return [Evaluation(loss / n, right, n) for loss, right in zip(losses.tolist(), correct.tolist(), strict=True)]


def measure(model: FlatModel, vectors: Sequence[Float32Array], held_out: HeldOut) -> list[tuple[int, int]]:
    """Return (mean loss in micro-nats, correct count) of each vector as the integers that a report holds.

    The loss is rounded and capped to [0, 2**31 − 1]; NaN and infinity count as the cap. See `evaluate`.
    """
    return [(loss_in_micro_nats(result.loss), result.correct) for result in evaluate(model, vectors, held_out)]


def loss_in_micro_nats(loss: float) -> int:
    """Round a loss in nats to micro-nats within [0, `LOSS_CAP`]; NaN and infinity give the cap."""
    if not math.isfinite(loss):
        return LOSS_CAP
    return min(max(round(loss * 1e6), 0), LOSS_CAP)


def predict(model: FlatModel, vector: Float32Array, inputs: Float32Array, batch: int = BATCH) -> NDArray[np.int64]:
    """Return int64[n] predicted classes; −1 where the model's output is NaN. See `evaluate`."""
    with _evaluating(model.module):
        classes: NDArray[np.int64] = _classes(_outputs(model, [vector], torch.from_numpy(inputs), batch)[0]).numpy()
    return classes


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
    return logits.argmax(-1).masked_fill(logits.isnan().any(-1), -1)


def _outputs(
    model: FlatModel,
    vectors: Sequence[Float32Array],
    inputs: torch.Tensor,
    batch: int,
    patches: ConvolutionPatches | None = None,
) -> list[torch.Tensor]:
    """Return float32[n, classes] of each vector."""
    n, module = len(inputs), model.module
    parts = [(start, min(start + batch, n)) for start in range(0, n, batch)]
    outputs: list[list[torch.Tensor]] = [[] for _ in vectors]
    if patches is None:
        for vector, own in zip(vectors, outputs, strict=True):
            model.load(vector)
            own += [module(inputs[start:stop]) for start, stop in parts]
    else:
        finish = patches.rest(module)
        kernels = [torch.from_numpy(model.named(vector)[patches.kernel]) for vector in vectors]
        for part in parts:
            for vector, own, convolved in zip(vectors, outputs, patches.convolve(kernels, *part), strict=True):
                model.load(vector)
                own.append(finish(convolved))
    if outputs[0][0].ndim != 2:
        raise ConfigError(f"The model's output has shape {list(outputs[0][0].shape)}.", "Make it [examples, classes].")
    return [torch.cat(own) if len(own) > 1 else own[0] for own in outputs]


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Let a module evaluate, without gradients; its mode is as it was afterwards."""
    training = module.training
    # Setting a module's mode takes longer than asking for it, and as long as a tiny model's outputs.
    switches = any(part.training for part in module.modules())
    if switches:
        module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if switches:
            module.train(training)
