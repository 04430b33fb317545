"""The asynchronous schedule of FedBuff."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fedledger.protocol.methods.parameters import Checked, Whole
from fedledger.protocol.schedules.asynchronous import asynchronous
from fedledger.protocol.schedules.base import SCHEDULES, Choose
from fedledger.protocol.schedules.event_simulator import EventSimulator
from fedledger.protocol.schedules.events import ServerStep


@SCHEDULES.register("fedbuff@1")
@dataclass(frozen=True)
class FedBuff(Checked):
    """Make a step with every K updates, whenever they arrive (Nguyen et al. 2022).

    So many participants are on their way at any time; who comes next is drawn uniformly from those that are idle and
    can be asked. The task's selection has no say. With K = N, where nobody fails, the steps are the synchronous ones.

    Parameters
    ----------
    buffer
        K.
    concurrency
        How many train at a time.
    max_staleness
        An update staler than that is discarded, and its participant may be asked again; None: none is.
    """

    buffer: Annotated[int, Whole(1, 1_000_000)]
    concurrency: Annotated[int, Whole(1, 1_000_000)]
    max_staleness: Annotated[int | None, Whole(0, 65_535)] = None

    @property
    def most_updates(self) -> int:
        """K."""
        return self.buffer

    @property
    def most_stale(self) -> int | None:
        """The bound."""
        return self.max_staleness

    def __call__(self, run: EventSimulator, choose: Choose) -> Iterator[ServerStep]:
        return asynchronous(run, self.buffer, self.concurrency, self.max_staleness)
