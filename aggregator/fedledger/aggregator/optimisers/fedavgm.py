"""Federated averaging with server momentum (Hsu et al. 2019, https://arxiv.org/abs/1909.06335)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.aggregator.optimisers.base import MOMENTUM, ONE, OPTIMISERS, SERVER_LEARNING_RATE, State, moments
from fedledger.protocol.arithmetic.exact import IntArray, saturate, scaled, weighted_mean
from fedledger.protocol.methods.parameters import Checked


@OPTIMISERS.register("fedavgm@1")
@dataclass(frozen=True)
class FedAvgM(Checked):
    """v ← momentum · v + Δ; step = server_learning_rate · v; both saturate at ±2^40.

    Parameters
    ----------
    server_learning_rate, momentum
        Rounded to multiples of 2^-30.
    """

    server_learning_rate: Annotated[float, SERVER_LEARNING_RATE] = 1.0
    momentum: Annotated[float, MOMENTUM] = 0.9

    def __call__(self, delta: IntArray, state: State, unit: int) -> tuple[IntArray, State]:
        (velocity,) = moments(state, {"velocity": 0}, len(delta))
        both = np.stack([velocity, delta])
        velocity = saturate(weighted_mean(both, [round(self.momentum * ONE), ONE], ONE))
        step = saturate(scaled(velocity, round(self.server_learning_rate * ONE), ONE))
        return step, {"velocity": velocity}
