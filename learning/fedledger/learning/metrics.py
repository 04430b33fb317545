"""What a model is worth on held-out data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.fast.convolution_patches import ConvolutionPatches, first_layers
from fedledger.learning.objectives.base import Batch, Evaluated, Objective
from fedledger.learning.objectives.classification import CLASSIFICATION, Classification, classes_of
from fedledger.learning.replayable.measurement import ExactObjective, Kept
from fedledger.learning.vectors import FlatModel, Float32Array, repeatable, single_thread
from fedledger.protocol.errors import ConfigError, FedledgerError
from fedledger.protocol.records.measurement import LOSS_CAP, MAX_SCORE, Measurement

BATCH = 128
"""Examples a forward pass: what a network of moderate size makes of them stays in a processor's cache."""
LOGITS_TOGETHER = 1 << 22
"""Numbers that several models may put out to be measured at once."""
OUTPUT_BYTES = 64 * 1024 * 1024
"""Of what a model puts out in a forward pass; of larger outputs fewer examples are taken at once."""
PROBED = 8
"""Examples of which a model's outputs are looked at beforehand."""


@dataclass(frozen=True)
class Evaluation:
    """A model's performance on held-out examples.

    Attributes
    ----------
    loss
        Mean loss in the objective's unit; NaN or infinite where the model's outputs are.
    score
        What the objective counts.
    full_score
        What the score is a part or a multiple of; 0 if there is nothing of the kind.
    margin
        By how much the model prefers what is right; None where the objective has no such measure.
    """

    loss: float
    score: int
    full_score: float
    margin: float | None = None

    @property
    def share(self) -> float:
        """The score divided by the full score, such as an accuracy; NaN if there is none."""
        return self.score / self.full_score if self.full_score else math.nan


class HeldOut:
    """Examples on which models are evaluated.

    Parameters
    ----------
    inputs, targets
        float32 or int64[n, ...], and what is to be predicted of each; n ≥ 1.
    objective
        How a model is measured.

    Raises
    ------
    ConfigError
        If there is no example.
    """

    def __init__(self, inputs: NDArray[Any], targets: NDArray[Any], objective: Objective = CLASSIFICATION) -> None:
        if not len(inputs):
            raise ConfigError("There is no example to evaluate on.", "Give a larger held-out set.")
        self.inputs = torch.from_numpy(np.ascontiguousarray(inputs))
        self.targets = torch.from_numpy(np.ascontiguousarray(targets))
        self.objective = objective
        self._whole: tuple[HeldOut, torch.Tensor] | None = None
        self._patches: WeakKeyDictionary[torch.nn.Module, ConvolutionPatches | None] = WeakKeyDictionary()
        self._shared: dict[str, ConvolutionPatches | None] = {}
        self._checked: set[tuple[object, ...]] = set()
        self.sizes: WeakKeyDictionary[torch.nn.Module, int] = WeakKeyDictionary()
        self.prepared: Kept = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def full_score(self) -> float:
        """What the objective divides a score by where it is shown."""
        return self.objective.full_score(self.targets)

    def patches(self, module: torch.nn.Module) -> ConvolutionPatches | None:
        """Return what a module sees first, where it pays to keep that; it is kept once for all that see the same."""
        if module not in self._patches:
            layers = first_layers(module)
            kind = repr(layers)
            if kind not in self._shared:
                self._shared[kind] = self._cut_out(module, layers)
            self._patches[module] = self._shared[kind]
        return self._patches[module]

    def part(self, places: Sequence[int]) -> HeldOut:
        """Return some of the examples, by their places; what is known of all of them is not found out again."""
        chosen = torch.tensor(places, dtype=torch.int64)
        made = HeldOut(self.inputs[chosen].numpy(), self.targets[chosen].numpy(), self.objective)
        made._whole, made._checked, made.sizes = (self, chosen), self._checked, self.sizes
        return made

    def _cut_out(self, module: torch.nn.Module, layers: Sequence[torch.nn.Module]) -> ConvolutionPatches | None:
        if self._whole is not None:
            whole, places = self._whole
            patches = whole.patches(module)
            if patches is not None:
                return patches.part(places)
        return ConvolutionPatches.of(layers, self.inputs)

    def checked(self, outputs: object, examples: int) -> torch.Tensor:
        """Return what a model put out for so many examples, if the objective can measure it; else raise ConfigError."""
        if not isinstance(outputs, torch.Tensor):
            raise ConfigError(
                f"The model's output is of type {type(outputs).__name__}, not a tensor.",
                "Return one tensor from forward(), such as the first part of what a recurrent layer returns.",
            )
        if not outputs.ndim or len(outputs) != examples:
            raise ConfigError(
                f"The model's output has shape {list(outputs.shape)} for {examples} examples.",
                "Return each example's outputs, the examples first: squeeze() drops a single one, squeeze(1) not.",
            )
        kind = (outputs.dtype, outputs.shape[1:])
        if kind not in self._checked:
            self.objective.check(outputs, self.targets, self.inputs)
            self._checked.add(kind)
        return outputs


def evaluate(
    model: FlatModel, vectors: Sequence[Float32Array], held_out: HeldOut, batch: int = BATCH
) -> list[Evaluation]:
    """Load each vector into ``model`` and evaluate it on one thread, in double precision.

    What a vector gives does not depend on those beside it: only the forward passes differ, and they are each one's own.

    Parameters
    ----------
    model
        Holds the last one of ``vectors`` afterwards.
    vectors
        float32[d] each.
    held_out
        The n examples, and the objective.
    batch
        Most examples a forward pass.

    Raises
    ------
    ConfigError
        If the model's outputs do not suit the targets.
    """
    if not vectors:
        return []
    # Several threads wait for each other longer than such models take: six times as long beside a busy process.
    with single_thread(), _evaluating(model.module):
        return [
            Evaluation(float(found.loss), min(max(int(found.score), 0), MAX_SCORE), held_out.full_score, found.margin)
            for found in _evaluated(model, vectors, held_out, batch)
        ]


def measure(model: FlatModel, vectors: Sequence[Float32Array], held_out: HeldOut) -> list[Measurement]:
    """Return the measurement of each vector, in the integers that a report holds.

    The loss is rounded and capped to [0, 2**31 − 1], a margin to ± as much; NaN and infinity count as the worst. See
    `evaluate`.
    """
    return [
        Measurement(loss_in_millionths(result.loss), result.score, _margin_in_millionths(result.margin))
        for result in evaluate(model, vectors, held_out)
    ]


def check_model(model: FlatModel, vector: Float32Array, dataset: Dataset, objective: Objective) -> None:
    """Check that a model can be trained and measured on a data set, before anything is.

    Parameters
    ----------
    model
        Holds ``vector`` afterwards.
    vector
        float32[d]: the model that training begins with.
    dataset
        Examples as the objective prepared them, n ≥ 1.
    objective
        The task's.

    Raises
    ------
    ConfigError
        If the model's outputs do not suit the targets, differ from one time to the next, or are so bad that its loss is
        at the cap, where nothing shows whether it gets better.
    """
    held_out = HeldOut(dataset.inputs, dataset.targets, objective)
    model.load(vector)
    with repeatable(), _computing():
        with _evaluating(model.module):
            few = held_out.inputs[:PROBED]
            outputs = held_out.checked(model.module(few), len(few))
            objective.check(outputs, held_out.targets, held_out.inputs, dataset.classes)
            again = model.module(few)
        if not torch.equal(again.nan_to_num(), outputs.nan_to_num()):
            raise ConfigError(
                "The model's outputs for the same examples differ from one evaluation to the next.",
                "Draw random numbers while self.training alone; functional.dropout takes training=self.training.",
            )
        if len(few) > 1:
            _check_alone(model, few, outputs)
            _check_training(model, held_out)
            model.load(vector)
        loss = evaluate(model, [vector], held_out)[0].loss
    if loss < 0:
        raise ConfigError(
            f"The initial model's loss ({objective.loss_name}) is {loss:g}; a ledger holds none below 0.",
            "Set lowest, of OwnObjective, to a number that the loss stays above, such as -10.",
        )
    if loss_in_millionths(loss) == LOSS_CAP:
        raise ConfigError(
            f"The initial model's loss ({objective.loss_name}) is at the cap of {LOSS_CAP / 1e6:,.0f} or undefined.",
            "Scale the targets (regression@1 has a scale) or the inputs, or have the model begin with smaller numbers.",
        )


def loss_in_millionths(loss: float) -> int:
    """Round a loss to millionths of its unit within [0, `LOSS_CAP`]; NaN and infinity give the cap."""
    if not math.isfinite(loss):
        return LOSS_CAP
    # Limited first: the product of a large loss is beyond all doubles.
    return round(min(max(loss, 0.0) * 1e6, LOSS_CAP))


def _margin_in_millionths(margin: float | None) -> int | None:
    if margin is None:
        return None
    return round(min(max(margin * 1e6, -LOSS_CAP), LOSS_CAP)) if math.isfinite(margin) else -LOSS_CAP


def predict(model: FlatModel, vector: Float32Array, inputs: Float32Array, batch: int = BATCH) -> NDArray[np.int64]:
    """Return int64[n] predicted classes; −1 where the model's output is NaN. See `evaluate`."""
    model.load(vector)
    with _evaluating(model.module):
        given = torch.from_numpy(inputs)
        parts = [model.module(given[start : start + batch]) for start in range(0, len(given), batch)]
        classes: NDArray[np.int64] = classes_of(torch.cat(parts)).numpy()
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


@contextmanager
def _computing() -> Iterator[None]:
    """Say what a model's code raises in a sentence."""
    try:
        yield
    except FedledgerError:
        raise
    except Exception as error:
        raise ConfigError(
            f"The model cannot compute the examples: {type(error).__name__}: {error}.",
            "Make it take examples of this shape and type, or convert them.",
        ) from error


def _check_alone(model: FlatModel, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
    """Check that what a model makes of an example does not depend on the others beside it.

    Rounding moves outputs a little, and may take a few of them to another expert or code; it leaves most as they are.
    """
    remedy = "Normalise in evaluation by what was seen in training, as BatchNorm does with track_running_stats = True."
    try:
        with _evaluating(model.module):
            alone = torch.cat([model.module(inputs[place : place + 1]) for place in range(len(inputs))])
    except ValueError as error:
        raise ConfigError(f"The model cannot evaluate a single example: {error}.", remedy) from error
    if alone.shape != outputs.shape:
        return
    apart = (alone - outputs).nan_to_num().abs() > 1e-3 * outputs.nan_to_num().abs().max()
    if 2 * int(apart.flatten(1).any(1).sum()) > len(inputs):
        raise ConfigError(
            "The model's outputs for an example depend on the others of its batch, also in evaluation.", remedy
        )


def _check_training(model: FlatModel, held_out: HeldOut) -> None:
    """Check the outputs and the loss of a model that trains, on a few examples; it may change its statistics."""
    module, inputs, targets = model.module, held_out.inputs[:PROBED], held_out.targets[:PROBED]
    was = module.training
    module.train()
    try:
        outputs = held_out.checked(module(inputs), len(inputs))
        loss: object = held_out.objective.loss(outputs, targets, inputs)
    finally:
        module.train(was)
    if not isinstance(loss, torch.Tensor) or loss.ndim:
        found = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise ConfigError(f"The objective's loss() returned {found}.", "Return the mean loss of a batch, one number.")
    if not loss.requires_grad:
        raise ConfigError(
            "The model's loss does not follow from what is trained.",
            "Compute it by torch from parameters that have requires_grad, without detach() or item().",
        )
    model.gradient.zero_()
    loss.backward()  # type: ignore[no-untyped-call]
    if lost := model.lost():
        raise ConfigError(
            f"The model's code replaces the parameter {lost[0]} or its gradient, so that training does not move it.",
            "Change parameters in place, as copy_() does, and leave zero_grad() to the solver.",
        )


def _evaluated(model: FlatModel, vectors: Sequence[Float32Array], held_out: HeldOut, batch: int) -> Iterable[Evaluated]:
    """Measure the vectors, together where that pays."""
    objective, n = held_out.objective, len(held_out)
    if isinstance(objective, ExactObjective):
        for vector in vectors:
            yield objective.measure(
                objective.outputs(model, vector, held_out.inputs, held_out.targets, held_out.prepared)
            )
        model.load(vectors[-1])
        return
    size = _output_size(model, vectors[0], held_out)
    batch = max(1, min(batch, OUTPUT_BYTES // (4 * max(1, size))))
    # A class that extends it may measure otherwise.
    if type(objective) is not Classification or n * size > LOGITS_TOGETHER:
        for vector in vectors:
            model.load(vector)
            yield objective.measure(_batches(model.module, held_out, batch))
        return
    together = max(1, LOGITS_TOGETHER // (n * size))
    for first in range(0, len(vectors), together):
        outputs = _outputs(model, vectors[first : first + together], held_out, batch)
        logits = torch.stack(outputs).double()
        yield from objective.together(logits, held_out.targets)


def _output_size(model: FlatModel, vector: Float32Array, held_out: HeldOut) -> int:
    """Return how many numbers a model puts out for an example, having checked that they suit the objective."""
    kept = held_out.sizes.get(model.module)
    if kept is None:
        model.load(vector)
        outputs = held_out.checked(model.module(held_out.inputs[:1]), 1)
        kept = held_out.sizes[model.module] = outputs.numel()
    return kept


def _batches(module: torch.nn.Module, held_out: HeldOut, batch: int) -> Iterator[Batch]:
    shape: torch.Size | None = None
    for start in range(0, len(held_out), batch):
        inputs, targets = held_out.inputs[start : start + batch], held_out.targets[start : start + batch]
        outputs = held_out.checked(module(inputs), len(inputs))
        if shape is not None and outputs.shape[1:] != shape:
            raise ConfigError(
                f"The model's output is {list(outputs.shape[1:])} an example, after {list(shape)}.",
                "Return outputs of one shape.",
            )
        shape = outputs.shape[1:]
        yield Batch(outputs, targets, inputs)


def _outputs(model: FlatModel, vectors: Sequence[Float32Array], held_out: HeldOut, batch: int) -> list[torch.Tensor]:
    """Return float32[n, classes] of each vector."""
    n, module, patches = len(held_out), model.module, held_out.patches(model.module)
    parts = [(start, min(start + batch, n)) for start in range(0, n, batch)]
    outputs: list[list[torch.Tensor]] = [[] for _ in vectors]
    if patches is None:
        for vector, own in zip(vectors, outputs, strict=True):
            model.load(vector)
            own += [held_out.checked(module(held_out.inputs[start:stop]), stop - start) for start, stop in parts]
    else:
        finish = patches.rest(module)
        kernels = [torch.from_numpy(model.named(vector)[patches.kernel]) for vector in vectors]
        for part in parts:
            for vector, own, convolved in zip(vectors, outputs, patches.convolve(kernels, *part), strict=True):
                model.load(vector)
                own.append(finish(convolved))
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
