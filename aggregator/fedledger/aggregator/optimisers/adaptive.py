"""What the adaptive server optimisers share (Reddi et al. 2021, https://arxiv.org/abs/2003.00295, algorithm 2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.aggregator.optimisers.base import MOMENTUM, SERVER_LEARNING_RATE, State, moments
from fedledger.protocol.arithmetic.exact import LIMIT, Float64Array, IntArray, saturate, to_whole
from fedledger.protocol.methods.parameters import Checked, Real

_FINER = 1 << 10
_MOST = LIMIT * _FINER


@dataclass(frozen=True, kw_only=True)
class Adaptive(Checked, ABC):
    """m ← β₁m + (1−β₁)Δ; v ← what the optimiser makes of v and Δ²; step = server_learning_rate · m / (√v + τ).

    It starts from m = 0 and v = τ², or the square of ``initial_root``, without bias correction. The state holds m and
    √v (whose square would not fit) with ten bits more than Δ, so at most 2^50, where doubles are exact and √v
    saturates; in between stand only + − × ÷ √ on doubles, element by element.

    Parameters
    ----------
    server_learning_rate, beta1
        As in the paper.
    tau
        Degree of adaptivity τ, in units of the model's parameters.
    initial_root
        √v before the first round, in the same units; τ if not given, as the paper asks for v ≥ τ². Some libraries start
        from 0.
    """

    server_learning_rate: Annotated[float, SERVER_LEARNING_RATE] = 0.01
    beta1: Annotated[float, MOMENTUM] = 0.9
    tau: Annotated[float, Real(0, 1e12, above=True)] = 1e-3
    initial_root: Annotated[float | None, Real(0, 1e12)] = None

    @abstractmethod
    def second(self, v: Float64Array, square: Float64Array) -> Float64Array:
        """Return the new v, from the last one and Δ²."""

    def __call__(self, delta: IntArray, state: State, unit: int) -> tuple[IntArray, State]:
        tau = min(max(1.0, self.tau * unit * _FINER), 2.0**50)
        first = tau if self.initial_root is None else min(self.initial_root * unit * _FINER, 2.0**50)
        m, root = moments(state, {"mean": 0, "root": round(first)}, len(delta))
        fine: Float64Array = delta.astype(np.float64) * np.float64(_FINER)
        last: Float64Array = root.astype(np.float64)
        # Its magnitude is at most that of m and Δ: only a state that nobody honest wrote is limited here.
        mean = np.minimum(np.maximum(np.rint(self.beta1 * m + (1 - self.beta1) * fine), -_MOST), _MOST)
        root_v = np.minimum(np.rint(np.sqrt(self.second(last * last, fine * fine))), _MOST)
        step = saturate(self.server_learning_rate * unit * mean / (root_v + tau))
        return step, {"mean": to_whole(mean, _MOST), "root": to_whole(root_v, _MOST)}
