"""Ask a random sample by reputation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.selection.base import RECORD, SELECTIONS, SelectionContext
from fedledger.aggregator.selection.sampling import require_count, weighted_sample
from fedledger.protocol.methods.parameters import Checked, Whole


@SELECTIONS.register("reputation@1")
@dataclass(frozen=True)
class Reputation(Checked):
    """Ask a random sample, drawn one by one with probability in proportion to reputation.

    Parameters
    ----------
    count
        Size of the sample.
    """

    count: Annotated[int, Whole(1, 1_000_000)]
    looks_at: ClassVar[frozenset[str]] = frozenset({RECORD})

    def __call__(self, context: SelectionContext) -> list[str]:
        candidates, stream = context.candidates, context.stream
        require_count(self.count, candidates)
        weights = [candidate.reputation for candidate in candidates]
        return sorted(candidates[place].address for place in weighted_sample(weights, self.count, stream))
