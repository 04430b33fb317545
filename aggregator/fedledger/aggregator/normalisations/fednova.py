"""Normalisation by local steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from fedledger.aggregator.normalisations.base import NORMALISATIONS
from fedledger.protocol.arithmetic.exact import MAX_ROWS, IntArray, scaled, weighted_mean
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Whole

MOST_STEPS = 1 << 20


@NORMALISATIONS.register("fednova@1")
@dataclass(frozen=True)
class FedNova(Checked):
    """FedNova (Wang et al. 2020, https://arxiv.org/abs/2007.07481) for local SGD: row ← round(row · τ_eff / τ).

    τ is the number of local steps, so that who took many does not pull the model towards its own optimum, and
    τ_eff = Σ nτ / Σ n over the round's valid updates with n examples that count, or as given. It is exact, rounded once
    a coordinate, halves to even, and saturates at the spec's bound. It is meant for SGD without momentum: with momentum
    the paper divides by another norm of the steps' weights.

    A number of steps is only a claim, so each counts as at least 1 and at most ``max_steps``. What a false one can do:
    too low a claim magnifies the liar's own update by up to τ_eff, which detectors and rules then see as it is and
    which ends at the bound; too high a claim shrinks it. On others it acts through τ_eff alone, which is at most
    ``max_steps``: an honest update of τ steps is never magnified by more than ``max_steps`` / τ, and all of them
    alike, as by a larger server learning rate. With ``effective_steps`` nobody's claim acts on anybody else.

    Parameters
    ----------
    max_steps
        The most local steps that an honest participant takes, at most 2^20.
    effective_steps
        τ_eff, at most ``max_steps``; None for the mean of what is claimed.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    max_steps: Annotated[int, Whole(1, MOST_STEPS)]
    effective_steps: Annotated[int | None, Whole(1, MOST_STEPS)] = None
    trusts_claims: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.effective_steps is not None and self.effective_steps > self.max_steps:
            raise ConfigError(
                f"effective_steps is {self.effective_steps}.", f"Give at most max_steps, {self.max_steps}."
            )

    def __call__(
        self, deltas: IntArray, steps: Sequence[int], examples: Sequence[int], bound: int, unit: int = 1
    ) -> IntArray:
        # Examples and steps are below 2^20 and rows at most 2^12, so all products stay below 2^61.
        if len(deltas) > MAX_ROWS:
            raise ConfigError(f"{len(deltas)} updates cannot be normalised exactly.", f"Select at most {MAX_ROWS}.")
        counted = [min(max(1, claimed), self.max_steps) for claimed in steps]
        if self.effective_steps is not None:
            effective, total = self.effective_steps, 1
        else:
            effective = sum(n * tau for n, tau in zip(examples, counted, strict=True))
            total = sum(examples)
        if not total:
            return deltas
        rows = [
            np.clip(weighted_mean(row[None], [effective], total * tau), -bound, bound)
            for row, tau in zip(deltas, counted, strict=True)
        ]
        return np.stack(rows) if rows else deltas


@NORMALISATIONS.register("fednova@2")
@dataclass(frozen=True)
class MedianNova:
    """FedNova (Wang et al. 2020, https://arxiv.org/abs/2007.07481) that magnifies nothing: row ← row · min(1, m / τ).

    τ is the number of local steps that a sender states, at least 1, and m the round's upper median of them. Who states
    more steps than the median pulls the model no further than who took the median; stating fewer gains nothing, and
    moves others only as far as the median follows. It is exact, rounded once a coordinate, halves to even.
    """

    trusts_claims: ClassVar[bool] = False

    def __call__(
        self, deltas: IntArray, steps: Sequence[int], examples: Sequence[int], bound: int, unit: int = 1
    ) -> IntArray:
        counted = [max(1, claimed) for claimed in steps]
        if not counted:
            return deltas
        middle = sorted(counted)[len(counted) // 2]
        return np.stack([scaled(row, min(middle, tau), tau) for row, tau in zip(deltas, counted, strict=True)])
