"""Noise of a channel on the way to the aggregator (Ang et al. 2020, https://arxiv.org/abs/1911.00251)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from fedledger.learning.vectors import Float32Array
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.transforms.base import TRANSFORMS
from fedledger.protocol.methods.parameters import Checked, Real


@TRANSFORMS.register("channel_noise@1")
@dataclass(frozen=True)
class ChannelNoise(Checked):
    """Adds Gaussian noise to the update, as if it came over a noisy channel: δ ← δ + e with e ~ N(0, σ²I).

    It is for experiments, as updates reach a ledger exactly. The delta and the solver's further vectors get noise, in
    the order of their names, drawn from the participant's random stream and rounded to float32 after the sum. A model's
    statistics, such as variances, stay as they are. The mean of n updates deviates by σ/√n, and everybody trains from
    it in the next round.

    Parameters
    ----------
    deviation
        Standard deviation σ of the noise in each coordinate.
    """

    deviation: Annotated[float, Real(0, 1e12)]

    def __call__(self, update: LocalUpdate, rng: np.random.Generator) -> LocalUpdate:
        """Return the update as it arrives."""
        if not self.deviation:
            return update
        delta = self._received(update.delta, rng)
        vectors = {name: self._received(update.vectors[name], rng) for name in sorted(update.vectors)}
        return replace(update, delta=delta, vectors=vectors)

    def _received(self, vector: Float32Array, rng: np.random.Generator) -> Float32Array:
        return (vector + rng.normal(0.0, self.deviation, vector.shape)).astype(np.float32)
