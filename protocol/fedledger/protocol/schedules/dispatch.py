"""Asking devices for updates, and the limits on it."""

from __future__ import annotations

from collections.abc import Sequence

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.schedules.event_simulator import MAX_FAILURES, EventSimulator
from fedledger.protocol.schedules.events import Arrival, Loss


def ask(run: EventSimulator, chosen: Sequence[str]) -> list[Loss]:
    """Send off who of those chosen can be asked, and return the losses of the others; wait if there is nobody."""
    chosen = [address for address in sorted(chosen, key=str.lower) if not run.is_busy(address)]
    waited = 0
    while not run.flying:
        times = [time for address in chosen if (time := run.ready_at(address)) is not None]
        waited += 1
        if not times or waited > MAX_FAILURES:
            raise nobody()
        if min(times) == run.now:
            break
        run.now = min(times)
    losses = []
    for address in chosen:
        if run.ready_at(address) == run.now:
            run.dispatch(address)
        else:
            losses.append(run.refuse(address))
    return losses


def too_stale(arrival: Arrival, step: int, bound: int | None) -> bool:
    """Return whether an update that arrives in a step is staler than a schedule takes."""
    return bound is not None and step - arrival.base_round > bound


def nobody() -> ConfigError:
    """Return the error of a schedule in which no update can arrive any more."""
    return ConfigError(
        "No update can arrive any more: devices are offline, out of battery, or too slow for as long as they last.",
        "Change the devices, or the number of updates that a step waits for.",
    )
