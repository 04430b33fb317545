"""Contribution scores: non-negative integers in proportion to which a round's pay is divided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry


class Contribution(Protocol):
    """Scores the updates of a round; a frozen dataclass of its parameters."""

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        """Return one score per update, in address order; 0 where the weight is 0."""
        ...


CONTRIBUTIONS: Registry[Callable[..., Contribution]] = Registry(kind_of("contribution"))
