"""FedAdam (Reddi et al. 2021, https://arxiv.org/abs/2003.00295, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedledger.aggregator.optimisers.base import OPTIMISERS, State, decay, moments, rate
from fedledger.protocol.exact import IntArray, saturate
from fedledger.protocol.parameters import real

_FINER = 1 << 10


@OPTIMISERS.register("fedadam@1")
@dataclass(frozen=True)
class FedAdam:
    """m ← β₁m + (1−β₁)Δ; v ← β₂v + (1−β₂)Δ²; step = server_learning_rate · m / (√v + τ).

    It starts from m = 0 and v = τ², without bias correction. The state holds m and √v (whose square would not
    fit) with ten bits more than Δ, so at most 2^50, where doubles are exact; in between stand only + − × ÷ √
    on doubles, element by element.

    Parameters
    ----------
    server_learning_rate, beta1, beta2
        As in the paper.
    tau
        Degree of adaptivity τ, in units of the model's parameters.
    """

    server_learning_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        rate("server_learning_rate", self.server_learning_rate)
        decay("beta1", self.beta1)
        decay("beta2", self.beta2)
        real("tau", self.tau, above=True)

    def __call__(self, delta: IntArray, state: State, unit: int) -> tuple[IntArray, State]:
        tau = min(max(1.0, self.tau * unit * _FINER), 2.0**50)
        m, root = moments(state, {"mean": 0, "root": round(tau)}, len(delta))
        fine = delta * float(_FINER)
        mean = np.rint(self.beta1 * m + (1 - self.beta1) * fine)
        root_v = np.rint(np.sqrt(self.beta2 * (root * 1.0 * root) + (1 - self.beta2) * (fine * fine)))
        step = saturate(self.server_learning_rate * unit * mean / (root_v + tau))
        return step, {"mean": mean.astype(np.int64), "root": root_v.astype(np.int64)}
