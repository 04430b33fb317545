"""Gaussian noise of attackers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.protocol.arithmetic.random_streams import generator
from fedledger.protocol.codecs.payload import described_slots

EVERYBODY = ""
"""Whose stream colluders draw their common noise from."""


def noises(context: TrainingContext, deviation: float, common: float = 0.0) -> Callable[[int], NDArray[np.float32]]:
    """Return what gives Gaussian noise of so many coordinates, other noise at each call.

    Parameters
    ----------
    context
        Whose noise of which round it is.
    deviation
        The standard deviation.
    common
        Which multiple of the deviation the noise has that all colluders share; at most 1.
    """
    own, shared = (
        generator(context.spec.digest, "attack", context.index, owner) for owner in (context.owner, EVERYBODY)
    )
    alone = (1 - common**2) ** 0.5

    def noise(length: int) -> NDArray[np.float32]:
        values = np.asarray(alone * own.standard_normal(length))
        if common:
            values += common * shared.standard_normal(length)
        return np.asarray(values * deviation, np.float32)

    return noise


def further_noise(
    context: TrainingContext, noise: Callable[[int], NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return noise for each vector that an update holds besides its delta, by name."""
    return {slot.name: noise(slot.length) for slot in described_slots(context.spec, context.base.dimension)[1:]}


def disturbed(
    context: TrainingContext, vector: NDArray[np.float32], size: float, common: float = 0.0
) -> NDArray[np.float32]:
    """Return a vector under noise whose norm is ``size`` times the vector's, as near as chance has it."""
    if not size or not len(vector):
        return vector
    rms = float(np.sqrt(np.mean(np.square(vector, dtype=np.float64))))
    noise = noises(context, size * rms, common)
    return np.asarray(vector + noise(len(vector)), np.float32)


def disguised(context: TrainingContext, update: LocalUpdate, size: float) -> LocalUpdate:
    """Return an update whose vectors are each under noise of ``size`` times their norm."""
    vectors = {name: disturbed(context, vector, size) for name, vector in sorted(update.vectors.items())}
    return replace(update, delta=disturbed(context, update.delta, size), vectors=vectors)
