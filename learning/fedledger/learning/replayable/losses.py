"""Losses with the same bits on any processor: gradients of exact outputs, in doubles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.objectives.regression import Regression
from fedledger.learning.objectives.tokens import PADDING, Tokens
from fedledger.learning.replayable.exponentials import LOWEST, MAX_CLASSES, STEPS, exponentials, logarithm
from fedledger.learning.replayable.grids import ACTIVATION_LIMIT, scaled_rate
from fedledger.protocol.errors import ConfigError

Tensor = torch.Tensor
Array: TypeAlias = NDArray[np.float64]
AT_ONCE = 64
"""Batches whose losses are added up at once."""
_LEAST = 2.0**-40
_LAST = float((LOWEST << STEPS) - 1)
_SCALE = float(1 << STEPS)


class Gradient(Protocol):
    """A loss, as training sees it."""

    def prepared(self, targets: Tensor) -> Tensor:
        """Return targets [n, ...] as :meth:`delta` takes them."""
        ...

    def delta(self, outputs: Tensor, targets: Tensor, rate: float) -> tuple[Tensor, int]:
        """Return gradients of a batch's mean loss by outputs [..., outputs, m], float64 within ±1, and k.

        Times 2^−k, they are the gradients times the learning rate ``rate``. Whoever gets them leaves them as they are.
        """
        ...

    def totals(self) -> list[float]:
        """Return each copy's sum of all losses so far, each times the number of its batch's examples."""
        ...


class CrossEntropy:
    """The mean cross-entropy of a batch's places, with logits rounded to 2^−12.

    p = e^(z − max z) / Σ; the gradient of a logit is p − 1 for the target's, and else p. A probability below e^−16 of
    the largest counts as so much.

    Parameters
    ----------
    padded
        Whether a target of −1 counts for nothing.
    """

    def __init__(self, padded: bool = False) -> None:
        self._padded = padded
        self._sums: Array | float = 0.0
        self._recent: list[tuple[Array, float]] = []

    def prepared(self, targets: Tensor) -> Tensor:
        return targets

    def delta(self, outputs: Tensor, targets: Tensor, rate: float) -> tuple[Tensor, int]:
        if self._padded:
            return self._of_tokens(outputs, targets, rate)
        fraction, power = scaled_rate(rate, targets.shape[-1])
        found, shares = _classes(outputs, targets.numpy(), fraction)
        self._note(shares, 1.0)
        return torch.from_numpy(found), power

    def _of_tokens(self, outputs: Tensor, targets: Tensor, rate: float) -> tuple[Tensor, int]:
        flat = targets.numpy().T.reshape(-1)
        is_token = flat != PADDING
        tokens = max(1, int(is_token.sum()))
        fraction, power = scaled_rate(rate, tokens)
        found, shares = _classes(outputs, np.maximum(flat, 0), fraction)
        self._note(shares[is_token], targets.shape[0] / tokens)
        found *= is_token
        return torch.from_numpy(found), power

    def _note(self, shares: Array, weight: float) -> None:
        self._recent.append((shares, weight))
        if len(self._recent) >= AT_ONCE:
            self._settle()

    def _settle(self) -> None:
        """Add up the losses of recent batches, all at once."""
        if not self._recent:
            return
        shares, weights = zip(*self._recent, strict=True)
        logarithms = logarithm(np.maximum(np.concatenate(shares, -1), _LEAST))
        ends = np.cumsum([each.shape[-1] for each in shares])
        for own, weight in zip(np.split(logarithms, ends[:-1], -1), weights, strict=True):
            self._sums = self._sums - own.sum(-1) * weight
        self._recent = []

    def totals(self) -> list[float]:
        self._settle()
        return np.reshape(self._sums, -1).tolist()


def _classes(outputs: Tensor, targets: NDArray[np.int64], fraction: float) -> tuple[Array, Array]:
    """Return gradients by logits [..., classes, m], times a fraction, and the targets' probabilities [..., m].

    NumPy's calls take less time than torch's, which matters with so few numbers.
    """
    units: Array = np.rint(outputs.numpy() * _SCALE, dtype=np.float64)
    below = np.minimum(units.max(-2, keepdims=True) - units, _LAST)
    found: Array = _table().take(below.astype(np.int64))
    # c · p, so that c need not be multiplied in later.
    found /= found.sum(-2, keepdims=True) / fraction
    grid: Sequence[NDArray[np.int64]] = np.indices(targets.shape, sparse=True)
    places = *grid[:-1], targets, grid[-1]
    own = found[places] - fraction
    found[places] = own
    # What remains of −1 for a target's logit is its p.
    return found, own / fraction + 1.0


class SquaredError:
    """The mean squared error of numbers in units of their scale; errors beyond ±16 count as ±16 in the gradient.

    Parameters
    ----------
    objective
        The task's, which says offset and scale.
    """

    SPARE = 4
    """Bits by which gradients are smaller and the rate larger, so that errors up to 16 stay below 1."""

    def __init__(self, objective: Regression) -> None:
        self._objective = objective
        self._sums: Tensor | float = 0.0

    def prepared(self, targets: Tensor) -> Tensor:
        return scaled_targets(self._objective, targets)

    def delta(self, outputs: Tensor, targets: Tensor, rate: float) -> tuple[Tensor, int]:
        examples, width = targets.shape[-2:]
        fraction, power = scaled_rate(rate, examples * width)
        errors = outputs.double() - targets.transpose(-1, -2)
        self._sums = self._sums + errors.square().sum((-1, -2)) / width
        found = errors.clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT).mul_(fraction * 2.0**-self.SPARE)
        return found, power - self.SPARE - 1

    def totals(self) -> list[float]:
        return torch.as_tensor(self._sums).view(-1).tolist()


def scaled_targets(objective: Regression, targets: Tensor) -> Tensor:
    """Return (targets − offset) / scale, float64[n, k], one operation after the other."""
    rows = targets.double().reshape(len(targets), -1)
    offset, scale = (
        torch.tensor(default if value is None else value, dtype=torch.float64)
        for value, default in ((objective.offset, 0.0), (objective.scale, 1.0))
    )
    return rows.sub_(offset).div_(scale)


@cache
def _table() -> Array:
    return exponentials().numpy()


def gradient_of(loss: Loss, outputs: int) -> Gradient:
    """Return a loss in its exact form, for so many outputs of a model.

    Raises
    ------
    ConfigError
        If it has none.
    """
    if outputs > MAX_CLASSES:
        raise ConfigError(f"The model has {outputs:,} classes; replayable training takes {MAX_CLASSES:,} at most.")
    owner = getattr(loss, "__self__", None)
    if loss is cross_entropy:
        return CrossEntropy()
    if isinstance(owner, Tokens):
        return CrossEntropy(padded=True)
    if isinstance(owner, Regression) and owner.criterion == "squared":
        return SquaredError(owner)
    raise ConfigError(
        "The task's objective has no replayable form.",
        'Use classification@1, tokens@1 or regression@1 with criterion = "squared", or another solver.',
    )
