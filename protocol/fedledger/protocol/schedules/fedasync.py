"""The asynchronous schedule of FedAsync."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.protocol.methods.parameters import Checked, Whole
from fedledger.protocol.schedules.asynchronous import asynchronous
from fedledger.protocol.schedules.base import SCHEDULES, Choose
from fedledger.protocol.schedules.event_simulator import EventSimulator
from fedledger.protocol.schedules.events import ServerStep


@SCHEDULES.register("fedasync@1")
@dataclass(frozen=True)
class FedAsync(Checked):
    """Make a step of every update (Xie et al. 2019); as :class:`FedBuff` with K = 1."""

    concurrency: Annotated[int, Whole(1, 1_000_000)]
    max_staleness: Annotated[int | None, Whole(0, 65_535)] = None
    most_updates: ClassVar[int | None] = 1

    @property
    def most_stale(self) -> int | None:
        """The bound."""
        return self.max_staleness

    def __call__(self, run: EventSimulator, choose: Choose) -> Iterator[ServerStep]:
        return asynchronous(run, 1, self.concurrency, self.max_staleness)
