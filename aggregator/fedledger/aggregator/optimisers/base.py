"""What a server optimiser is: the aggregate in, the step of the model out, and a state of integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.parameters import Real
from fedledger.protocol.methods.registry import Registry

ONE = 1 << 30
"""The integer that stands for 1 in learning rates and momenta."""
SERVER_LEARNING_RATE = Real(1 / ONE, 1000)
MOMENTUM = Real(0, 1, below=True)
"""Bounds of server learning rates and of decays."""

State = dict[str, IntArray]


class Optimiser(Protocol):
    """A frozen dataclass of its parameters; the new model is the base model plus the step."""

    def __call__(self, delta: IntArray, state: State, unit: int) -> tuple[IntArray, State]:
        """Return the step int64[d] and the new state.

        Parameters
        ----------
        delta
            The round's aggregate, int64[d] of magnitude at most 2^40.
        state
            What the last round returned; empty in the first.
        unit
            The integer that stands for a coordinate of 1.

        Raises
        ------
        ConfigError
            If the state is not this optimiser's, or not of this model.
        """
        ...


OPTIMISERS: Registry[Callable[..., Optimiser]] = Registry(kind_of("optimiser"))


def moments(state: State, initial: Mapping[str, int], d: int) -> list[IntArray]:
    """Return the state's vectors int64[d] by name, in the order of ``initial``, which fills them at first."""
    if not state:
        return [np.full(d, value, np.int64) for value in initial.values()]
    if set(state) != set(initial) or any(v.shape != (d,) or v.dtype != np.int64 for v in state.values()):
        raise ConfigError(
            "The optimiser's state belongs to another optimiser or model.", "Use the state of the last round."
        )
    return [state[name] for name in initial]
