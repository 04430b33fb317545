"""Clipping of updates (McMahan et al. 2018, https://arxiv.org/abs/1710.06963)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import Annotated

import numpy as np

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.transforms.base import TRANSFORMS
from fedledger.protocol.methods.parameters import Checked, Real


@TRANSFORMS.register("clip@1")
@dataclass(frozen=True)
class Clip(Checked):
    """Bounds the update's Euclidean norm.

    δ ← δ · min(1, C/‖δ‖), the norm in float64, each coordinate rounded to float32. An update that is not finite stays
    as it is. Only the delta is clipped.

    Parameters
    ----------
    bound
        Largest norm C.
    """

    bound: Annotated[float, Real(0, 1e12, above=True)]

    def __call__(self, update: LocalUpdate, rng: np.random.Generator) -> LocalUpdate:
        """Return the update with a delta whose norm is at most the bound."""
        delta = update.delta.astype(np.float64)
        norm = sqrt(float(np.square(delta).sum()))
        if not isfinite(norm) or norm <= self.bound:
            return update
        return replace(update, delta=(delta * (self.bound / norm)).astype(np.float32))
