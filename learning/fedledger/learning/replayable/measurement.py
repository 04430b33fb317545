"""Measurements of models that are the same to the last bit on any processor, so that none need be tolerated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.base import PPM, Batch, Evaluated, Loss, Objective
from fedledger.learning.objectives.classification import Classification
from fedledger.learning.objectives.half_pairs import half_pairs
from fedledger.learning.objectives.regression import Regression
from fedledger.learning.objectives.tokens import PADDING, Tokens
from fedledger.learning.replayable.arithmetic import DivergedError
from fedledger.learning.replayable.descent import replayable
from fedledger.learning.replayable.exponentials import LOWEST, MAX_CLASSES, STEPS, TABLE_BITS, exponentials, logarithm
from fedledger.learning.replayable.grids import rounder
from fedledger.learning.replayable.losses import scaled_targets
from fedledger.learning.replayable.network import Network
from fedledger.learning.replayable.perceptrons import Perceptrons
from fedledger.learning.vectors import FlatModel, Float32Array
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.measurement import LOSS_CAP

Tensor = torch.Tensor
BATCH, IMAGES, NUMBERS = 256, 16, 1 << 17
"""Examples at once, images at once, whose patches take more room, and numbers that are looked at together."""
Kept: TypeAlias = "WeakKeyDictionary[Perceptrons | Network, Tensor]"
"""Examples as networks take them."""
MARGIN_BITS, MARGIN_LIMIT = 20, 2.0**16
_TABLE, _MARGIN = rounder(TABLE_BITS), rounder(MARGIN_BITS)


class ExactObjective:
    """An objective whose measurements are functions of model and examples alone.

    A model is measured by its exact outputs: with weights, inputs and activations rounded as replayable training rounds
    them. What follows is + − × ÷ element by element, exact sums, and sums that are rounded once.

    Parameters
    ----------
    own
        The objective.

    Raises
    ------
    ConfigError
        If it has no exact form.
    """

    def __init__(self, own: Objective) -> None:
        if type(own) not in (Classification, Tokens, Regression):
            raise ConfigError(
                f"The objective {type(own).__name__} has no exact measurement.",
                'Use classification@1, tokens@1 or regression@1, or leave out measurement = "exact".',
            )
        self.own = own

    @property
    def loss_name(self) -> str:
        """The loss's name."""
        return self.own.loss_name

    @property
    def score_name(self) -> str:
        """The score's name."""
        return self.own.score_name

    @property
    def lower_is_better(self) -> bool:
        """Whether the smaller of two scores is better."""
        return self.own.lower_is_better

    @property
    def loss(self) -> Loss:
        """What training minimises."""
        return self.own.loss

    def prepared(self, dataset: Dataset) -> Dataset:
        """Return the data set as the objective takes it."""
        return self.own.prepared(dataset)

    def check(self, outputs: Tensor, targets: Tensor, inputs: Tensor, classes: int | None = None) -> None:
        """Raise ConfigError if outputs do not suit the targets."""
        self.own.check(outputs, targets, inputs, classes)
        if not isinstance(self.own, Regression) and outputs.shape[-1] > MAX_CLASSES:
            raise ConfigError(
                f"The model has {outputs.shape[-1]:,} classes; exact measurement takes {MAX_CLASSES:,} at most."
            )

    def full_score(self, targets: Tensor) -> float:
        """Return what a score is divided by where it is shown."""
        return self.own.full_score(targets)

    def tolerance(self, targets: Tensor) -> int:
        """Return 0."""
        return 0

    def outputs(
        self, model: FlatModel, vector: Float32Array, inputs: Tensor, targets: Tensor, kept: Kept
    ) -> Iterator[Batch]:
        """Yield a model's exact outputs float64[m, ...] for examples [n, ...], batch by batch.

        Parameters
        ----------
        model, vector
            The model, and its weights float32[d].
        inputs, targets
            The examples.
        kept
            What was made of the same examples before; it is added to.

        Raises
        ------
        DivergedError
            If its weights are too large for exact products.
        """
        own = replayable(model, inputs)
        network = own.network
        prepared = kept.get(network)
        if prepared is None:
            prepared = kept[network] = network.prepared(inputs)
        own.load(vector)
        network.refresh(slice(None))
        last = network.plan.blocks[-1].after
        few, many = _sizes(network, math.prod(last))
        for start in range(0, targets.shape[0], many):
            stop = min(start + many, targets.shape[0])
            made = [
                network.outputs(network.batch(prepared[place : min(place + few, stop)])).double().view(*last, -1)
                for place in range(start, stop, few)
            ]
            outputs = torch.cat(made, -1).movedim(0, -1).movedim(-2, 0).contiguous()
            yield Batch(outputs, targets[start:stop], inputs[start:stop])

    def measure(self, batches: Iterable[Batch]) -> Evaluated:
        """Measure a model by its exact outputs; one whose outputs are none is as bad as can be."""
        try:
            if isinstance(self.own, Regression):
                return _numbers(self.own, batches)
            if isinstance(self.own, Tokens):
                return _tokens(batches)
            return _classes(batches, isinstance(self.own, Classification) and self.own.score == "auc")
        except DivergedError:
            worst = LOSS_CAP if isinstance(self.own, Regression) else 0
            return Evaluated(math.nan, worst, math.nan if isinstance(self.own, Classification) else None)


def _sizes(network: Perceptrons | Network, outputs: int) -> tuple[int, int]:
    """Return how many examples are computed at once, and how many outputs are looked at together."""
    few = IMAGES if any(block.kind == "convolution" for block in network.plan.blocks) else BATCH
    return few, max(few, NUMBERS // outputs // few * few)


def _losses(logits: Tensor, targets: Tensor) -> list[float]:
    """Return the cross-entropy of each example of exact float64[n, classes] and int64[n], in nats.

    ln Σ e^−(max z − z) + max z − z of the target; an exponential is one of the table, times the series of what is left,
    within 2^−36. One below e^−16 counts as so much.
    """
    below = torch.sub(logits.amax(1, True), logits)
    own = below.gather(1, targets[:, None])[:, 0]
    cut = below.clamp(max=LOWEST - 2.0**-STEPS)
    units = torch.mul(cut, float(1 << STEPS)).floor_()
    left = cut.sub_(units * 2.0**-STEPS)
    series = torch.mul(left, -1 / 6).add_(0.5).mul_(left).sub_(1.0).mul_(left).add_(1.0)
    shares = series.mul_(exponentials().take(units.long())).add_(_TABLE).sub_(_TABLE)
    losses: list[float] = (logarithm(shares.sum(1).numpy()) + own.numpy()).tolist()
    return losses


def _classes(batches: Iterable[Batch], is_area: bool) -> Evaluated:
    losses: list[float] = []
    right = 0
    every = []
    for outputs, targets, _ in batches:
        losses += _losses(outputs, targets)
        values: NDArray[np.float64] = outputs.numpy()
        right += int((values.argmax(1) == targets.numpy()).sum())
        near = outputs.clamp(-MARGIN_LIMIT, MARGIN_LIMIT).add_(_MARGIN).sub_(_MARGIN)
        own: NDArray[np.float64] = near.gather(1, targets[:, None])[:, 0].sub_(near.sum(1).div_(near.shape[1])).numpy()
        every.append((own, targets.numpy(), values[:, 1] - values[:, 0] if is_area else own))
    above, labels, differences = map(np.concatenate, zip(*every, strict=True))
    order = np.argsort(labels, kind="stable")
    ends = [*(np.flatnonzero(np.diff(labels[order])) + 1).tolist(), len(order)]
    ordered: list[float] = above[order].tolist()
    margin = _mean([_mean(ordered[start:stop]) for start, stop in zip([0, *ends], ends, strict=False)])
    return Evaluated(_mean(losses), half_pairs(differences, labels == 1) if is_area else right, margin)


def _tokens(batches: Iterable[Batch]) -> Evaluated:
    losses: list[float] = []
    right = 0
    for outputs, targets, _ in batches:
        wanted = targets.reshape(-1)
        is_token = wanted != PADDING
        logits, wanted = outputs.reshape(is_token.shape[0], -1)[is_token], wanted[is_token]
        losses += _losses(logits, wanted)
        right += int((logits.numpy().argmax(1) == wanted.numpy()).sum())
    return Evaluated(_mean(losses) if losses else math.nan, right)


def _numbers(objective: Regression, batches: Iterable[Batch]) -> Evaluated:
    losses: list[float] = []
    distances: list[float] = []
    for outputs, targets, _ in batches:
        wanted = scaled_targets(objective, targets)
        apart = outputs.reshape(wanted.shape).sub(wanted).abs_()
        distances += apart.reshape(-1).tolist()
        if objective.criterion == "squared":
            apart = apart * apart
        elif objective.criterion == "huber":
            delta = objective.delta
            apart = torch.where(apart <= delta, (apart * apart).mul_(0.5), (apart - delta / 2).mul_(delta))
        losses += apart.reshape(-1).tolist()
    return Evaluated(_mean(losses), min(round(_mean(distances) * PPM), LOSS_CAP))


def _mean(values: Sequence[float]) -> float:
    """Return the mean, of a sum that is rounded once."""
    return math.fsum(values) / len(values)
