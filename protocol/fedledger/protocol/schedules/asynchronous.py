"""What asynchronous schedules have in common."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.schedules.devices import Failure
from fedledger.protocol.schedules.dispatch import nobody, too_stale
from fedledger.protocol.schedules.event_simulator import MAX_FAILURES, RETRY_US, Simulation
from fedledger.protocol.schedules.events import Arrival, Loss, ServerStep


def asynchronous(run: Simulation, buffer: int, concurrency: int, max_staleness: int | None) -> Iterator[ServerStep]:
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
    idle = list(run.addresses)
    resting: list[tuple[int, str, str]] = []
    arrivals: list[Arrival] = []
    losses: list[Loss] = []
    failures = 0
    while True:
        while resting and resting[0][0] <= run.now:
            idle.append(heapq.heappop(resting)[2])
        while idle and run.flying < concurrency:
            place = run.draws.below(len(idle))
            address, idle[place] = idle[place], idle[-1]
            idle.pop()
            ready = run.ready_at(address)
            if ready == run.now:
                run.dispatch(address)
            elif ready is not None:
                heapq.heappush(resting, (ready, address.lower(), address))
        times = [time for time in (run.next_end, resting[0][0] if resting else None) if time is not None]
        if not times or failures > MAX_FAILURES * len(run.addresses):
            raise nobody()
        run.now = min(times)
        while run.next_end == run.now:
            landed = run.land()
            if isinstance(landed, Loss):
                losses.append(landed)
                failures += 1
                heapq.heappush(resting, (run.now + RETRY_US, landed.address.lower(), landed.address))
            elif too_stale(landed, run.step, max_staleness):
                losses.append(landed.lost(Failure.STALE))
                idle.append(landed.address)
            else:
                arrivals.append(landed)
            if len(arrivals) == buffer and (made := run.make(arrivals, losses)):
                yield made
                idle += [arrival.address for arrival in made.arrivals]
                failures = 0
