"""The statistics of a round's updates, which count by their values and not as steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.staleness.damping import damped, staleness_weight
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.codecs.statistics import Statistics
from fedledger.protocol.records.spec import TaskSpec


@dataclass(frozen=True)
class StatisticRows:
    """Statistics in each tensor's own fixed-point format.

    Parameters
    ----------
    format
        The formats.
    base
        The base model's, int64[s].
    rows
        The updates', int64[n, s].
    """

    format: Statistics
    base: IntArray
    rows: IntArray

    @classmethod
    def of(cls, spec: TaskSpec, base: NDArray[np.float32], updates: Sequence[tuple[IntArray, int]]) -> StatisticRows:
        """Return those of a round, given its base model float32[d + s], and each update's statistics and staleness.

        A stale update's are drawn towards the base's as its staleness weight says.
        """
        values = Statistics.of(spec.tensors)
        own = values.fixed(base[len(base) - spec.statistics :])
        weight = staleness_weight(spec)
        rows = [own + damped(row - own, weight(stale)) if stale and len(own) else row for row, stale in updates]
        return cls(values, own, np.vstack(rows) if rows else np.zeros((0, len(own)), np.int64))

    def behind(self, trained: NDArray[np.float32], values: IntArray) -> NDArray[np.float32]:
        """Return the model float32[d + s] of trained coordinates float32[d] and statistics int64[s]."""
        return np.concatenate([trained, self.format.to_float32(values)]) if len(values) else trained
