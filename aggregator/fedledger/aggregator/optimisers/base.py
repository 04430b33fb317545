"""What a server optimiser is: the aggregate in, the step of the model out, and a state of integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import real
from fedledger.protocol.methods.registry import Registry

ONE = 1 << 30
"""The integer that stands for 1 in learning rates and momenta."""

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


OPTIMISERS: Registry[Callable[..., Optimiser]] = Registry(
    "server optimiser", "fedledger.optimisers", "fedledger.aggregator.optimisers"
)


def moments(state: State, initial: Mapping[str, int], d: int) -> list[IntArray]:
    """Return the state's vectors int64[d] by name, in the order of ``initial``, which fills them at first."""
    if not state:
        return [np.full(d, value, np.int64) for value in initial.values()]
    if set(state) != set(initial) or any(v.shape != (d,) or v.dtype != np.int64 for v in state.values()):
        raise ConfigError(
            "The optimiser's state belongs to another optimiser or model.", "Use the state of the last round."
        )
    return [state[name] for name in initial]


def rate(name: str, value: float) -> float:
    """Check a server learning rate (above 0, at most 1000) and return it; raises ConfigError."""
    if real(name, value, above=True) > 1000 or value < 1 / ONE:
        raise ConfigError(f"{name} is {value:g}.", "Give a number from 1e-9 to 1000.")
    return value


def decay(name: str, value: float) -> float:
    """Check a momentum (at least 0, below 1) and return it; raises ConfigError."""
    if real(name, value) >= 1:
        raise ConfigError(f"{name} is {value:g}.", "Give a number of at least 0 and below 1.")
    return value
