"""Ask everybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedledger.aggregator.selection.base import SELECTIONS, Candidate
from fedledger.protocol.arithmetic.random_streams import Stream


@SELECTIONS.register("all@1")
@dataclass(frozen=True)
class All:
    """Ask everybody."""

    looks_at: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, candidates: Sequence[Candidate], index: int, stream: Stream) -> list[str]:
        return [candidate.address for candidate in candidates]
