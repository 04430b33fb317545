"""Losses with the same bits on any processor: gradients of exact outputs, in doubles."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import torch

from fedledger.learning.objectives.base import Loss
from fedledger.learning.objectives.classification import cross_entropy
from fedledger.learning.objectives.regression import Regression
from fedledger.learning.objectives.tokens import PADDING, Tokens
from fedledger.learning.replayable.exponentials import LOWEST, MAX_CLASSES, STEPS, exponentials, logarithm
from fedledger.learning.replayable.grids import ACTIVATION_LIMIT, scaled_rate
from fedledger.protocol.errors import ConfigError

Tensor = torch.Tensor
AT_ONCE = 64
"""Batches whose losses are added up at once."""
FEW = 256
"""Classes up to which a table of targets saves calls."""
_LEAST = 2.0**-40
_LAST = (LOWEST << STEPS) - 1
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
        self._sums: Tensor | float = 0.0
        self._recent: list[tuple[Tensor, Tensor, float, float]] = []

    def prepared(self, targets: Tensor) -> Tensor:
        return targets

    def delta(self, outputs: Tensor, targets: Tensor, rate: float) -> tuple[Tensor, int]:
        if self._padded:
            return self._of_tokens(outputs, targets, rate)
        fraction, power = scaled_rate(rate, targets.shape[-1])
        found = self._scaled(outputs, targets, fraction)
        self._note(found, targets, fraction, 1.0)
        return found, power

    def _of_tokens(self, outputs: Tensor, targets: Tensor, rate: float) -> tuple[Tensor, int]:
        flat = targets.t().reshape(-1)
        is_token = flat != PADDING
        tokens = max(1, int(is_token.sum()))
        fraction, power = scaled_rate(rate, tokens)
        found = self._scaled(outputs, flat.clamp(min=0), fraction)
        self._note(found[:, is_token], flat[is_token], fraction, targets.shape[0] / tokens)
        return found.mul(is_token.double()), power

    @staticmethod
    def _scaled(outputs: Tensor, targets: Tensor, fraction: float) -> Tensor:
        units = torch.mul(outputs if outputs.dtype == torch.float64 else outputs.double(), _SCALE).round_()
        below = torch.sub(units.amax(-2, True), units, out=units).clamp_max_(_LAST)
        shares = exponentials().take(below.long())
        # c · p, so that c need not be multiplied in later.
        found = shares.div_(shares.sum(-2, True).div_(fraction))
        if found.shape[-2] > FEW:
            places = targets.unsqueeze(-2)
            return found.scatter_(-2, places, found.gather(-2, places).sub_(fraction))
        goals = _units(found.shape[-2], fraction).index_select(1, targets.view(-1))
        if targets.ndim > 1:
            goals = goals.view(-1, *targets.shape).transpose(0, 1)
        return found.sub_(goals)

    def _note(self, found: Tensor, targets: Tensor, fraction: float, share: float) -> None:
        self._recent.append((found, targets, fraction, share))
        if len(self._recent) >= AT_ONCE:
            self._settle()

    def _settle(self) -> None:
        """Add up the losses of recent batches, all at once: what remains of −1 for a target's logit is its p."""
        if not self._recent:
            return
        found, targets, fractions, shares = zip(*self._recent, strict=True)
        own = [each.gather(-2, goals.unsqueeze(-2)).squeeze(-2) for each, goals in zip(found, targets, strict=True)]
        scaled = [each.div_(fraction).add_(1.0) for each, fraction in zip(own, fractions, strict=True)]
        losses = torch.split(logarithm(torch.cat(scaled, -1).clamp_min_(_LEAST)), [each.shape[-1] for each in own], -1)
        for each, share in zip(losses, shares, strict=True):
            self._sums = self._sums - each.sum(-1) * share
        self._recent = []

    def totals(self) -> list[float]:
        self._settle()
        return torch.as_tensor(self._sums).view(-1).tolist()


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


@lru_cache(maxsize=64)
def _units(classes: int, fraction: float) -> Tensor:
    return torch.eye(classes, dtype=torch.float64).mul_(fraction)


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
