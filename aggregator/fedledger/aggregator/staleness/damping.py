"""Stale updates damped."""

from __future__ import annotations

import numpy as np

from fedledger.aggregator.staleness.base import ONE, STALENESS, StalenessWeight
from fedledger.aggregator.staleness.constant import Constant
from fedledger.protocol.arithmetic.exact import IntArray, scaled
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.spec import TaskSpec


def staleness_weight(spec: TaskSpec) -> StalenessWeight:
    """Return the weight that a spec names; without one every update counts alike."""
    return Constant() if spec.staleness is None else build(STALENESS, spec.staleness.method, spec.staleness.params)


def shifts(spec: TaskSpec) -> bool:
    """Return whether the base models of stale updates are needed, and not their digests alone."""
    return spec.staleness is not None and staleness_weight(spec).mix_models


def damped(delta: IntArray, weight: int, shift: IntArray | None = None, limit: int | None = None) -> IntArray:
    """Return a stale update as the round sees it: (shift + delta) · weight / 2^30, rounded once, halves to even.

    Parameters
    ----------
    delta
        The update, int64[d] in fixed point.
    weight
        Its weight out of 2^30.
    shift
        What its base model exceeds the round's by, int64[d]; None: it stands for a difference.
    limit
        Largest magnitude of a coordinate of their sum, beyond which it is cut; a spec's bound in fixed point.

    Raises
    ------
    ConfigError
        If the weight is not from 0 to 1.
    """
    if not 0 <= weight <= ONE:
        raise ConfigError(f"A staleness weight of {weight} / 2^30 is not from 0 to 1.", "Choose another method.")
    if shift is not None:
        moved = delta + shift
        delta = moved if limit is None else np.clip(moved, -limit, limit)
    return scaled(delta, weight, ONE)
