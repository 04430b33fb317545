"""The asynchronous schedule of FedAsync."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fedledger.protocol.methods.parameters import whole
from fedledger.protocol.schedules.asynchronous import asynchronous
from fedledger.protocol.schedules.base import SCHEDULES, Choose
from fedledger.protocol.schedules.dispatch import bounded
from fedledger.protocol.schedules.event_simulator import Simulation
from fedledger.protocol.schedules.events import ServerStep


@SCHEDULES.register("fedasync@1")
@dataclass(frozen=True)
class FedAsync:
    """Make a step of every update (Xie et al. 2019); as :class:`FedBuff` with K = 1."""

    concurrency: int
    max_staleness: int | None = None
    most_updates: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        whole("concurrency", self.concurrency)
        bounded(self.max_staleness)

    @property
    def most_stale(self) -> int | None:
        """The bound."""
        return self.max_staleness

    def __call__(self, run: Simulation, choose: Choose) -> Iterator[ServerStep]:
        return asynchronous(run, 1, self.concurrency, self.max_staleness)
