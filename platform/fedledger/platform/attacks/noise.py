"""Gaussian noise of attackers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedledger.node.training import TrainingContext
from fedledger.protocol.arithmetic.random_streams import generator
from fedledger.protocol.codecs.payload import published_lengths


def noises(context: TrainingContext, deviation: float) -> Callable[[int], NDArray[np.float32]]:
    """Return what gives Gaussian noise of so many coordinates, other noise at each call."""
    rng = generator(context.spec.digest, "attack", context.index, context.owner)
    return lambda length: (rng.standard_normal(length) * deviation).astype(np.float32)


def further_noise(
    context: TrainingContext, noise: Callable[[int], NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return noise for each vector that an update holds besides its delta, by name."""
    lengths = published_lengths(context.spec, context.base.dimension)
    return {name: noise(length) for name, length in lengths.items()}
