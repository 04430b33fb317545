"""Ask all participants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedledger.aggregator.selection.base import SELECTIONS, SelectionContext


@SELECTIONS.register("all@1")
@dataclass(frozen=True)
class All:
    """Ask all participants."""

    looks_at: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, context: SelectionContext) -> list[str]:
        return [candidate.address for candidate in context.candidates]
