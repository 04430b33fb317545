"""Ask a uniform random sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.selection.base import SELECTIONS, SelectionContext
from fedledger.aggregator.selection.sampling import require_count
from fedledger.protocol.methods.parameters import Checked, Whole


@SELECTIONS.register("uniform@1")
@dataclass(frozen=True)
class Uniform(Checked):
    """Ask a uniform random sample.

    Parameters
    ----------
    count
        Size of the sample.
    """

    count: Annotated[int, Whole(1, 1_000_000)]
    looks_at: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, context: SelectionContext) -> list[str]:
        candidates, stream = context.candidates, context.stream
        require_count(self.count, candidates)
        return sorted(candidate.address for candidate in stream.sample(candidates, self.count))
