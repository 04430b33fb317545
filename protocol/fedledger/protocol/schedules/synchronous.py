"""The synchronous schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

from fedledger.protocol.schedules.base import SCHEDULES, Choose
from fedledger.protocol.schedules.dispatch import ask
from fedledger.protocol.schedules.event_simulator import EventSimulator
from fedledger.protocol.schedules.events import Arrival, Loss, ServerStep


@SCHEDULES.register("synchronous@1")
@dataclass(frozen=True)
class Synchronous:
    """Ask the selected, and wait for all of them: FedAvg (McMahan et al. 2017).

    A step for which nobody can be asked begins when the first one can be.
    """

    most_updates: ClassVar[int | None] = None
    most_stale: ClassVar[int | None] = 0

    def __call__(self, run: EventSimulator, choose: Choose) -> Iterator[ServerStep]:
        arrivals, losses = list[Arrival](), list[Loss]()
        for asked in count(1):
            losses += ask(run, choose(asked, run.addresses))
            while run.next_end is not None:
                run.now = run.next_end
                landed = run.land()
                if isinstance(landed, Loss):
                    losses.append(landed)
                else:
                    arrivals.append(landed)
            if made := run.make(arrivals, losses):
                yield made
