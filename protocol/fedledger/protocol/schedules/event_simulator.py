"""Devices at work in simulated time: who is asked, who is done when, who fails."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.schedules.devices import MICRO, DeviceTable, LossReason, Trip
from fedledger.protocol.schedules.events import Arrival, Loss, ServerStep

RETRY_US = 60_000_000
"""How long a participant that failed is left alone before an asynchronous server asks it again."""


MAX_FAILURES = 1000
"""Failures for each participant without a server step in between, after which a schedule gives up."""


MAX_ABANDONED = 1000
"""Abandoned steps in a row after which a schedule gives up."""


@dataclass(frozen=True, order=True)
class _Flight:
    """A participant on its way; flights are in the order of their ends, then of addresses."""

    ended_us: int
    key: str
    address: str
    base_round: int
    dispatched_us: int
    charge_uj: int
    trip: Trip

    @property
    def arrival(self) -> Arrival:
        trip = self.trip
        parts = trip.download_us, trip.compute_us, trip.upload_us
        return Arrival(self.address, self.base_round, self.dispatched_us, *parts, self.ended_us, trip.energy_uj)

    def loss(self, reason: LossReason) -> Loss:
        trip = self.trip
        parts = trip.download_us, trip.compute_us, trip.upload_us
        return Loss(self.address, self.base_round, self.dispatched_us, *parts, self.ended_us, trip.energy_uj, reason)


class EventSimulator:
    """Where each participant is in simulated time: what schedules are written with.

    ``now`` is the time and ``step`` the number of server steps made; a schedule moves both.

    Parameters
    ----------
    table
        The devices.
    digest
        Digest of the task's spec.
    quorum
        Least number of updates of a step.
    """

    def __init__(self, table: DeviceTable, digest: bytes, quorum: int = 0) -> None:
        self.table = table
        self.quorum = quorum
        self.addresses = table.addresses
        self.draws = stream(digest, "dispatch")
        self.now = 0
        self.step = 0
        self._abandoned = 0
        self._flying: list[_Flight] = []
        self._busy: set[str] = set()
        # When each battery was last looked at, and its charge then.
        self._charges: dict[str, tuple[int, int]] = {}

    @property
    def flying(self) -> int:
        """How many are on their way."""
        return len(self._flying)

    @property
    def next_end(self) -> int | None:
        """When the next of them arrives or fails, if there is one."""
        return self._flying[0].ended_us if self._flying else None

    def is_busy(self, address: str) -> bool:
        """Return whether a participant is on its way."""
        return address in self._busy

    def ready_at(self, address: str) -> int | None:
        """Return from when on a participant that is idle can be asked: the present if it can, None if never.

        Who harvests energy waits until it has enough for a trip, or until its battery is full.
        """
        device, charge = self.table.devices[address], self._charge(address)
        if device.battery is None:
            return device.next_online(self.now)
        enough, harvest = 1, device.battery.harvest_uw
        if harvest:
            enough = max(1, min(device.battery.capacity_uj, self.table.nominal(address).energy_uj))
        if charge >= enough:
            return device.next_online(self.now)
        return self.now + -(-(enough - charge) * MICRO // harvest) if harvest else None

    def dispatch(self, address: str) -> None:
        """Send a participant off with the present model."""
        charge = self._charge(address)
        trip = self.table.trip(address, self.now, charge)
        end = self.now + trip.duration_us
        heapq.heappush(self._flying, _Flight(end, address.lower(), address, self.step, self.now, charge, trip))
        self._busy.add(address)

    def refuse(self, address: str) -> Loss:
        """Return the loss of a participant that cannot even begin."""
        is_online = self.table.devices[address].next_online(self.now) == self.now
        reason = LossReason.BATTERY if is_online else LossReason.OFFLINE
        return Loss(address, self.step, self.now, 0, 0, 0, self.now, 0, reason)

    def land(self) -> Arrival | Loss:
        """Take the next one out of the air; the time is not moved."""
        flight = heapq.heappop(self._flying)
        self._end(flight)
        return flight.arrival if flight.trip.failure is None else flight.loss(flight.trip.failure)

    def recall(self, reason: LossReason) -> list[Loss]:
        """Have all give up now; in the order of their addresses."""
        losses = []
        for flight in sorted(self._flying, key=lambda f: f.key):
            trip = flight.trip.cut(self.now - flight.dispatched_us, reason)
            given_up = _Flight(
                self.now, flight.key, flight.address, flight.base_round, flight.dispatched_us, flight.charge_uj, trip
            )
            self._end(given_up)
            losses.append(given_up.loss(reason))
        self._flying.clear()
        return losses

    def make(self, arrivals: list[Arrival], losses: list[Loss]) -> ServerStep | None:
        """Make a step now of all that came since the last one, and empty the lists; abandon it if that is too little.

        Raises
        ------
        ConfigError
            If steps are abandoned for ever.
        """
        if len(arrivals) < self.quorum:
            losses += [arrival.lost(LossReason.ABANDONED) for arrival in arrivals]
            arrivals.clear()
            self._abandoned += 1
            if self._abandoned > MAX_ABANDONED:
                raise ConfigError(
                    f"{self._abandoned} steps in a row had fewer updates than the quorum of {self.quorum}.",
                    "Lower the quorum, or have the selection ask more participants, or the schedule wait longer.",
                )
            return None
        self._abandoned = 0
        self.step += 1
        made = ServerStep(self.step, self.now, tuple(arrivals), tuple(losses))
        arrivals.clear()
        losses.clear()
        return made

    def _end(self, flight: _Flight) -> None:
        self._busy.discard(flight.address)
        battery = self.table.devices[flight.address].battery
        if battery is not None:
            left, _ = battery.after(flight.charge_uj, flight.trip.parts)
            # What was spent until then is rounded.
            left = 0 if flight.trip.failure is LossReason.BATTERY else left
            self._charges[flight.address] = (flight.ended_us, left)

    def _charge(self, address: str) -> int:
        """Return a battery's charge now; 1 where there is mains."""
        battery = self.table.devices[address].battery
        if battery is None:
            return 1
        since, charge = self._charges.get(address, (0, battery.charge_uj))
        return battery.after(charge, [(self.now - since, 0)])[0]
