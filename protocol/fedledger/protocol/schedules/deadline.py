"""Synchronous rounds with a deadline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Annotated

from fedledger.protocol.methods.parameters import Checked, OneOf, Whole
from fedledger.protocol.schedules.base import SCHEDULES, Choose
from fedledger.protocol.schedules.devices import LossReason
from fedledger.protocol.schedules.dispatch import ask, too_stale
from fedledger.protocol.schedules.event_simulator import EventSimulator
from fedledger.protocol.schedules.events import Arrival, Loss, ServerStep

DROP, JOIN = "drop", "join"


@SCHEDULES.register("deadline@1")
@dataclass(frozen=True)
class Deadline(Checked):
    """Ask the selected, and wait for a quota of them or until a deadline: K of N (Bonawitz et al. 2019).

    Parameters
    ----------
    quota
        K: a step is made as soon as so many updates have arrived.
    deadline_us
        A step is made after so long at the latest, with what has arrived, be it nothing.
    late
        ``"drop"``: those who are too slow give up when the step is made. ``"join"``: they go on and count in the step
        in which they arrive, as stale (semi-synchronous); until then they are not asked again.
    max_staleness
        An update staler than that is discarded; None: none is.
    """

    quota: Annotated[int, Whole(1, 1_000_000)]
    deadline_us: Annotated[int, Whole(1, 2**53 - 1)]
    late: Annotated[str, OneOf((DROP, JOIN))] = DROP
    max_staleness: Annotated[int | None, Whole(0, 65_535)] = None

    @property
    def most_updates(self) -> int:
        """K."""
        return self.quota

    @property
    def most_stale(self) -> int | None:
        """0 if nobody joins later, else the bound."""
        return 0 if self.late == DROP else self.max_staleness

    def __call__(self, run: EventSimulator, choose: Choose) -> Iterator[ServerStep]:
        arrivals, losses = list[Arrival](), list[Loss]()
        for asked in count(1):
            losses += ask(run, choose(asked, run.addresses))
            limit = run.now + self.deadline_us
            while len(arrivals) < self.quota and run.next_end is not None and run.next_end <= limit:
                run.now = run.next_end
                landed = run.land()
                if isinstance(landed, Loss):
                    losses.append(landed)
                elif too_stale(landed, run.step, self.max_staleness):
                    losses.append(landed.lost(LossReason.STALE))
                else:
                    arrivals.append(landed)
            if len(arrivals) < self.quota and run.flying:
                run.now = limit
            if self.late == DROP:
                losses += run.recall(LossReason.LATE)
            if made := run.make(arrivals, losses):
                yield made
