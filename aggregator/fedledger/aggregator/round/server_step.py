"""From evaluated updates to the next model: weights, and the server optimiser's step. All of it is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.optimisers.base import OPTIMISERS, Optimiser, State
from fedledger.protocol.arithmetic.exact import FixedPoint, IntArray
from fedledger.protocol.bounded_cache import BoundedCache
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.model import fixed_model
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.records.spec import JudgementSpec, ReputationSpec, TaskSpec

MAX_WEIGHT = 1 << 20
_OPTIMISERS: BoundedCache[bytes, Optimiser] = BoundedCache(16)
"""By a spec's digest."""


@dataclass(frozen=True)
class Stepped:
    """The optimiser's step int64[d], its new state, base plus step int64[d], and the new coordinates float32[d]."""

    step: IntArray
    moments: State
    moved: IntArray
    model: NDArray[np.float32]


def counted_examples(rule: JudgementSpec | None, claims: Sequence[int]) -> list[int]:
    """Return how many examples count for each update, given how many its sender claims.

    Under a rule for judging, a claim is worth nothing, or at most the lower median claim.
    """
    if rule is None or not claims:
        return list(claims)
    if rule.claims == "nothing":
        return [1 if claim else 0 for claim in claims]
    typical = sorted(claims)[(len(claims) - 1) // 2]
    return [min(claim, typical) for claim in claims]


def reputation_gate(everybody: Sequence[int], rule: ReputationSpec) -> int:
    """Return the reputation in ppm below which an update weighs and earns nothing, given those of all in a round."""
    ordered = sorted(everybody)
    # The upper median: integers need no rounding rule then.
    typical = ordered[len(ordered) // 2] if ordered else 0
    return max(rule.gate, typical * rule.relative_gate // PPM)


def weigh(
    reputations: Sequence[int], examples: Sequence[int], everybody: Sequence[int], rule: ReputationSpec
) -> list[int]:
    """Return weights: reputation times examples, scaled so that the largest is 2^20; 0 below a gate.

    Parameters
    ----------
    reputations, examples
        Of the updates that may count; no examples, no weight.
    everybody
        Reputations of all whom the round asked.
    rule
        The gates.
    """
    gate = reputation_gate(everybody, rule)
    raw = [r * n if r >= gate else 0 for r, n in zip(reputations, examples, strict=True)]
    largest = max(raw, default=0)
    return [max(1, weight * MAX_WEIGHT // largest) if weight else 0 for weight in raw]


def take_step(spec: TaskSpec, base: NDArray[np.float32], delta: IntArray, moments: State) -> Stepped:
    """Return where the server optimiser goes from trained coordinates float32[d] with the aggregate int64[d].

    They stay in bounds.
    """
    fixed = spec.fixed
    optimiser = _OPTIMISERS.get(spec.digest)
    if optimiser is None:
        optimiser = _OPTIMISERS.keep(spec.digest, build(OPTIMISERS, spec.optimiser.method, spec.optimiser.params))
    step, moments = optimiser(delta, moments, fixed.unit)
    moved = fixed_model(base, fixed) + step
    return Stepped(step, moments, moved, _in_bounds(moved, fixed))


def take_plain_step(fixed: FixedPoint, base: NDArray[np.float32], delta: IntArray) -> NDArray[np.float32]:
    """Return where the aggregate int64[d] alone leads trained coordinates float32[d]."""
    return _in_bounds(fixed_model(base, fixed) + delta, fixed)


def _in_bounds(moved: IntArray, fixed: FixedPoint) -> NDArray[np.float32]:
    bound = int(fixed.bound * fixed.unit)
    return fixed.to_float32(np.minimum(np.maximum(moved, -bound), bound))
