"""Transforms: what a participant does to its update between training and encoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from fedledger.node.solvers.base import LocalUpdate
from fedledger.protocol.methods.catalogue import Method, kind_of
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import Registry


class Transform(Protocol):
    """Changes an update; a frozen dataclass of its parameters."""

    def __call__(self, update: LocalUpdate, rng: np.random.Generator) -> LocalUpdate:
        """Return the changed update; the one that is given stays as it is.

        Parameters
        ----------
        update
            What training gave, as the transforms before leave it; not finite if training diverged.
        rng
            The participant's random stream of the round, where training left it.
        """
        ...


TRANSFORMS: Registry[Callable[..., Transform]] = Registry(kind_of("transforms"))


def build_transforms(methods: Sequence[Method]) -> tuple[Transform, ...]:
    """Return the transforms that a spec names, in their order.

    Raises
    ------
    ConfigError
        If there is no such transform, or if the parameters do not suit it.
    """
    return tuple(build(TRANSFORMS, method.method, method.params) for method in methods)
