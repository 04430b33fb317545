"""What asynchronous schedules have in common."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.schedules.devices import LossReason
from fedledger.protocol.schedules.dispatch import nobody, too_stale
from fedledger.protocol.schedules.event_simulator import MAX_FAILURES, RETRY_US, EventSimulator
from fedledger.protocol.schedules.events import Arrival, Loss, ServerStep


def asynchronous(run: EventSimulator, buffer: int, concurrency: int, max_staleness: int | None) -> Iterator[ServerStep]:
    """Yield a step of the server for every ``buffer`` updates, with ``concurrency`` participants at work.

    Raises
    ------
    ConfigError
        If there are fewer participants than that takes, or no update can arrive any more.
    """
    if buffer > len(run.addresses):
        raise ConfigError(
            f"The schedule's buffer of {buffer} is more than its {len(run.addresses)} participants.",
            "Lower it: a participant gives one update a step.",
        )
    waiting = _Waiting(run, list(run.addresses))
    arrivals: list[Arrival] = []
    losses: list[Loss] = []
    failures = 0
    while True:
        waiting.dispatch(concurrency)
        times = [time for time in (run.next_end, waiting.next_ready) if time is not None]
        if not times or failures > MAX_FAILURES * len(run.addresses):
            raise nobody()
        run.now = min(times)
        while run.next_end == run.now:
            landed = run.land()
            if isinstance(landed, Loss):
                losses.append(landed)
                failures += 1
                waiting.rest(landed.address, run.now + RETRY_US)
            elif too_stale(landed, run.step, max_staleness):
                losses.append(landed.lost(LossReason.STALE))
                waiting.idle.append(landed.address)
            else:
                arrivals.append(landed)
            if len(arrivals) == buffer and (made := run.make(arrivals, losses)):
                yield made
                waiting.idle += [arrival.address for arrival in made.arrivals]
                failures = 0


@dataclass
class _Waiting:
    """Participants that are not at work: those that can be asked at once, and when each of the others can."""

    run: EventSimulator
    idle: list[str]
    resting: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def next_ready(self) -> int | None:
        """When the next of those that rest can be asked, if one rests."""
        return self.resting[0][0] if self.resting else None

    def rest(self, address: str, until: int) -> None:
        heapq.heappush(self.resting, (until, address.lower(), address))

    def dispatch(self, concurrency: int) -> None:
        """Send off idle participants, drawn at random, until so many are at work."""
        run, idle = self.run, self.idle
        while self.resting and self.resting[0][0] <= run.now:
            idle.append(heapq.heappop(self.resting)[2])
        while idle and run.flying < concurrency:
            place = run.draws.below(len(idle))
            address, idle[place] = idle[place], idle[-1]
            idle.pop()
            ready = run.ready_at(address)
            if ready == run.now:
                run.dispatch(address)
            elif ready is not None:
                self.rest(address, ready)
