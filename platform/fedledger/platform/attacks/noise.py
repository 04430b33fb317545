"""Gaussian noise of attackers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedledger.node.training import TrainingContext
from fedledger.protocol.arithmetic.random_streams import generator


def noises(context: TrainingContext, deviation: float) -> Iterator[NDArray[np.float32]]:
    """Yield vectors of Gaussian noise, as many as are asked for."""
    rng = generator(context.spec.digest, "attack", context.index, context.owner)
    while True:
        yield (rng.standard_normal(len(context.base.vector)) * deviation).astype(np.float32)
