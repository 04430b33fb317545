"""Ask a random sample by reputation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fedledger.aggregator.selection.base import RECORD, SELECTIONS, Candidate
from fedledger.aggregator.selection.sampling import require_count, weighted_sample
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.methods.parameters import whole


@SELECTIONS.register("reputation@1")
@dataclass(frozen=True)
class Reputation:
    """Ask a random sample, drawn one by one with probability in proportion to reputation.

    Parameters
    ----------
    count
        Size of the sample.
    """

    count: int
    looks_at: ClassVar[frozenset[str]] = frozenset({RECORD})

    def __post_init__(self) -> None:
        whole("count", self.count)

    def __call__(self, candidates: Sequence[Candidate], index: int, stream: Stream) -> list[str]:
        require_count(self.count, candidates)
        weights = [candidate.reputation for candidate in candidates]
        return sorted(candidates[place].address for place in weighted_sample(weights, self.count, stream))
