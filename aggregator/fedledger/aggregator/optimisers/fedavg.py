"""Federated averaging (McMahan et al. 2017, https://arxiv.org/abs/1602.05629)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.optimisers.base import ONE, OPTIMISERS, SERVER_LEARNING_RATE, State, moments
from fedledger.protocol.arithmetic.exact import IntArray, saturate, scaled
from fedledger.protocol.methods.parameters import Checked


@OPTIMISERS.register("fedavg@1")
@dataclass(frozen=True)
class FedAvg(Checked):
    """step = server_learning_rate · Δ, saturating at ±2^40.

    Parameters
    ----------
    server_learning_rate
        Factor on the aggregate, rounded to a multiple of 2^-30.
    """

    server_learning_rate: Annotated[float, SERVER_LEARNING_RATE] = 1.0

    def __call__(self, delta: IntArray, state: State, unit: int) -> tuple[IntArray, State]:
        moments(state, {}, len(delta))
        return saturate(scaled(delta, round(self.server_learning_rate * ONE), ONE)), {}
