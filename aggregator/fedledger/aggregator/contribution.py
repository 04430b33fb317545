"""Contribution scores: non-negative integers in proportion to which a round's pay is divided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedledger.aggregator.detection import Evidences
from fedledger.protocol.registry import Registry

SCALE = 1 << 20


class Contribution(Protocol):
    """Scores the updates of a round; a frozen dataclass of its parameters."""

    def __call__(self, seen: Evidences, weights: Sequence[int]) -> list[int]:
        """Return one score an update, in address order; 0 where the weight is 0."""
        ...


CONTRIBUTIONS: Registry[Callable[..., Contribution]] = Registry("contribution score", "fedledger.contributions")


@CONTRIBUTIONS.register("equal@1")
@dataclass(frozen=True)
class Equal:
    """Pay every update that counts alike."""

    def __call__(self, seen: Evidences, weights: Sequence[int]) -> list[int]:
        return [1 if weight else 0 for weight in weights]


@CONTRIBUTIONS.register("weight@1")
@dataclass(frozen=True)
class Weight:
    """Pay by the weight in the aggregate: reputation times examples."""

    def __call__(self, seen: Evidences, weights: Sequence[int]) -> list[int]:
        return list(weights)


@CONTRIBUTIONS.register("alignment@1")
@dataclass(frozen=True)
class Alignment:
    """Pay by weight times the cosine to the robust centre, so that an update which points nowhere earns little.

    The cosine to an aggregate as a contribution is after Xu et al. 2021 (CGSV); here the centre is the
    coordinate-wise median, which a minority cannot move at will.
    """

    def __call__(self, seen: Evidences, weights: Sequence[int]) -> list[int]:
        return [weight * round(max(0.0, seen.cosine(i, seen.centre)) * SCALE) for i, weight in enumerate(weights)]
