"""Schedules: who trains when, from which model, and which updates make which server step.

A schedule plays a task's event time from its device table, without any training: sizes of models and updates are
constant, so when an update arrives does not depend on what it says. A server step is a round of the ledger. All is in
integers and ties break by address, so nodes, aggregator and audits find the same steps.

What all schedules have in common:

- A participant that is offline, or whose battery is empty, when it is asked does not take part. One that goes offline,
  or runs out of battery, on the way gives up. The server learns of it at once.
- A participant gives at most one update a step, as the ledger records it so. One whose update waits for its step is not
  asked again before it.
- The server's own work takes no time.
- A step with fewer updates than the quorum is *abandoned* (Bonawitz et al. 2019): its updates are lost, it has no
  number, and the server asks anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar, Protocol

from fedledger.protocol.devices import MICRO, DeviceTable, Failure, Trip
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.parameters import build, whole
from fedledger.protocol.registry import Registry
from fedledger.protocol.spec import Method
from fedledger.protocol.streams import stream

RETRY_US = 60_000_000
"""How long a participant that failed is left alone before an asynchronous server asks it again."""
MAX_FAILURES = 1000
"""Failures for each participant without a server step in between, after which a schedule gives up."""
MAX_ABANDONED = 1000
"""Abandoned steps in a row after which a schedule gives up."""
DROP, JOIN = "drop", "join"


@dataclass(frozen=True)
class Arrival:
    """An update that came in.

    Parameters
    ----------
    address
        The participant.
    base_round
        Server steps that had been made when it was sent off: it trained on the model after so many rounds.
    dispatched_us, arrived_us
        When it began and when its update was there.
    download_us, compute_us, upload_us
        What it did in that time; they sum to it.
    energy_uj
        What it spent.
    """

    address: str
    base_round: int
    dispatched_us: int
    download_us: int
    compute_us: int
    upload_us: int
    arrived_us: int
    energy_uj: int

    def lost(self, reason: Failure) -> Loss:
        """Return the loss that this is if the update does not count."""
        parts = self.download_us, self.compute_us, self.upload_us
        when = self.dispatched_us, *parts, self.arrived_us
        return Loss(self.address, self.base_round, *when, self.energy_uj, reason)


@dataclass(frozen=True)
class Loss:
    """Work of a participant that came to nothing: as :class:`Arrival`, until it was ``lost_us``, and why."""

    address: str
    base_round: int
    dispatched_us: int
    download_us: int
    compute_us: int
    upload_us: int
    lost_us: int
    energy_uj: int
    reason: Failure


@dataclass(frozen=True)
class Flush:
    """A server step.

    Parameters
    ----------
    index
        Its number from 1: the round.
    time_us
        When it is made.
    arrivals
        The updates it is made of, in the order in which they came in.
    losses
        What came to nothing since the step before, in order.
    """

    index: int
    time_us: int
    arrivals: tuple[Arrival, ...]
    losses: tuple[Loss, ...] = ()

    def staleness(self, arrival: Arrival) -> int:
        """Return how many steps were made while the update was in the making."""
        return self.index - 1 - arrival.base_round


Choose = Callable[[int, Sequence[str]], Sequence[str]]
"""Chooses whom a step asks, of all addresses: the task's selection. It is told which time this is that the server asks,
from 1: the number of the step, as long as none was abandoned."""


def everybody(index: int, addresses: Sequence[str]) -> Sequence[str]:
    """Choose all."""
    return addresses


class Schedule(Protocol):
    """A frozen dataclass of its parameters that yields server steps without end."""

    @property
    def most_updates(self) -> int | None:
        """The number of updates that a step is made of at most; None: whatever the selection makes it."""
        ...

    @property
    def most_stale(self) -> int | None:
        """The largest staleness of an update; None: there is no bound."""
        ...

    def __call__(self, run: Simulation, choose: Choose) -> Iterator[Flush]:
        """Play on from the simulation's start."""
        ...


SCHEDULES: Registry[Callable[..., Schedule]] = Registry("schedule", "fedledger.schedules")


def simulate(
    table: DeviceTable, schedule: Method, digest: bytes, choose: Choose = everybody, quorum: int = 0
) -> Iterator[Flush]:
    """Return the server steps of a task, one after the other, without end.

    Parameters
    ----------
    table
        The task's devices.
    schedule
        A registered schedule.
    digest
        Digest of the task's spec, from which asynchronous schedules draw whom they ask.
    choose
        Whom a step asks, in schedules that ask anew in each step. It is called when the step is reached, so it may
        depend on the steps before.
    quorum
        Least number of updates of a step.

    Raises
    ------
    ConfigError
        If the schedule's parameters are wrong; while it is played, if no update can ever arrive any more.
    """
    return build_schedule(schedule)(Simulation(table, digest, quorum), choose)


def build_schedule(schedule: Method) -> Schedule:
    """Return a registered schedule.

    Raises
    ------
    ConfigError
        If there is none of that name, or its parameters are wrong.
    """
    return build(SCHEDULES, schedule.method, schedule.params)


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

    def loss(self, reason: Failure) -> Loss:
        trip = self.trip
        parts = trip.download_us, trip.compute_us, trip.upload_us
        return Loss(self.address, self.base_round, self.dispatched_us, *parts, self.ended_us, trip.energy_uj, reason)


class Simulation:
    """Where everybody is: what schedules are written with.

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
        reason = Failure.BATTERY if is_online else Failure.OFFLINE
        return Loss(address, self.step, self.now, 0, 0, 0, self.now, 0, reason)

    def land(self) -> Arrival | Loss:
        """Take the next one out of the air; the time is not moved."""
        flight = heapq.heappop(self._flying)
        self._end(flight)
        return flight.arrival if flight.trip.failure is None else flight.loss(flight.trip.failure)

    def recall(self, reason: Failure) -> list[Loss]:
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

    def make(self, arrivals: list[Arrival], losses: list[Loss]) -> Flush | None:
        """Make a step now of all that came since the last one, and empty the lists; abandon it if that is too little.

        Raises
        ------
        ConfigError
            If steps are abandoned for ever.
        """
        if len(arrivals) < self.quorum:
            losses += [arrival.lost(Failure.ABANDONED) for arrival in arrivals]
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
        made = Flush(self.step, self.now, tuple(arrivals), tuple(losses))
        arrivals.clear()
        losses.clear()
        return made

    def _end(self, flight: _Flight) -> None:
        self._busy.discard(flight.address)
        battery = self.table.devices[flight.address].battery
        if battery is not None:
            left, _ = battery.after(flight.charge_uj, flight.trip.parts)
            # What was spent until then is rounded.
            left = 0 if flight.trip.failure is Failure.BATTERY else left
            self._charges[flight.address] = (flight.ended_us, left)

    def _charge(self, address: str) -> int:
        """Return a battery's charge now; 1 where there is mains."""
        battery = self.table.devices[address].battery
        if battery is None:
            return 1
        since, charge = self._charges.get(address, (0, battery.charge_uj))
        return battery.after(charge, [(self.now - since, 0)])[0]


@SCHEDULES.register("synchronous@1")
@dataclass(frozen=True)
class Synchronous:
    """Ask those chosen, and wait for all of them: FedAvg (McMahan et al. 2017).

    A step for which nobody can be asked begins when the first one can be.
    """

    most_updates: ClassVar[int | None] = None
    most_stale: ClassVar[int | None] = 0

    def __call__(self, run: Simulation, choose: Choose) -> Iterator[Flush]:
        arrivals, losses = list[Arrival](), list[Loss]()
        for asked in count(1):
            losses += _ask(run, choose(asked, run.addresses))
            while run.next_end is not None:
                run.now = run.next_end
                landed = run.land()
                if isinstance(landed, Loss):
                    losses.append(landed)
                else:
                    arrivals.append(landed)
            if made := run.make(arrivals, losses):
                yield made


@SCHEDULES.register("deadline@1")
@dataclass(frozen=True)
class Deadline:
    """Ask those chosen, and wait until so many are there, or for so long: K of N (Bonawitz et al. 2019).

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

    quota: int
    deadline_us: int
    late: str = DROP
    max_staleness: int | None = None

    def __post_init__(self) -> None:
        whole("quota", self.quota)
        whole("deadline_us", self.deadline_us)
        _bounded(self.max_staleness)
        if self.late not in (DROP, JOIN):
            raise ConfigError(f"late is {self.late!r}.", f"Give {DROP!r} or {JOIN!r}.")

    @property
    def most_updates(self) -> int:
        """K."""
        return self.quota

    @property
    def most_stale(self) -> int | None:
        """0 if nobody joins later, else the bound."""
        return 0 if self.late == DROP else self.max_staleness

    def __call__(self, run: Simulation, choose: Choose) -> Iterator[Flush]:
        arrivals, losses = list[Arrival](), list[Loss]()
        for asked in count(1):
            losses += _ask(run, choose(asked, run.addresses))
            limit = run.now + self.deadline_us
            while len(arrivals) < self.quota and run.next_end is not None and run.next_end <= limit:
                run.now = run.next_end
                landed = run.land()
                if isinstance(landed, Loss):
                    losses.append(landed)
                elif _too_stale(landed, run.step, self.max_staleness):
                    losses.append(landed.lost(Failure.STALE))
                else:
                    arrivals.append(landed)
            if len(arrivals) < self.quota and run.flying:
                run.now = limit
            if self.late == DROP:
                losses += run.recall(Failure.LATE)
            if made := run.make(arrivals, losses):
                yield made


@SCHEDULES.register("fedbuff@1")
@dataclass(frozen=True)
class FedBuff:
    """Make a step of every K updates, whenever they come in (Nguyen et al. 2022).

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

    buffer: int
    concurrency: int
    max_staleness: int | None = None

    def __post_init__(self) -> None:
        whole("buffer", self.buffer)
        whole("concurrency", self.concurrency)
        _bounded(self.max_staleness)

    @property
    def most_updates(self) -> int:
        """K."""
        return self.buffer

    @property
    def most_stale(self) -> int | None:
        """The bound."""
        return self.max_staleness

    def __call__(self, run: Simulation, choose: Choose) -> Iterator[Flush]:
        return _asynchronous(run, self.buffer, self.concurrency, self.max_staleness)


@SCHEDULES.register("fedasync@1")
@dataclass(frozen=True)
class FedAsync:
    """Make a step of every update (Xie et al. 2019); as :class:`FedBuff` with K = 1."""

    concurrency: int
    max_staleness: int | None = None
    most_updates: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        whole("concurrency", self.concurrency)
        _bounded(self.max_staleness)

    @property
    def most_stale(self) -> int | None:
        """The bound."""
        return self.max_staleness

    def __call__(self, run: Simulation, choose: Choose) -> Iterator[Flush]:
        return _asynchronous(run, 1, self.concurrency, self.max_staleness)


def _ask(run: Simulation, chosen: Sequence[str]) -> list[Loss]:
    """Send off who of those chosen can be asked, and return the losses of the others; wait if there is nobody."""
    chosen = [address for address in sorted(chosen, key=str.lower) if not run.is_busy(address)]
    waited = 0
    while not run.flying:
        times = [time for address in chosen if (time := run.ready_at(address)) is not None]
        waited += 1
        if not times or waited > MAX_FAILURES:
            raise _nobody()
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


def _asynchronous(run: Simulation, buffer: int, concurrency: int, max_staleness: int | None) -> Iterator[Flush]:
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
            raise _nobody()
        run.now = min(times)
        while run.next_end == run.now:
            landed = run.land()
            if isinstance(landed, Loss):
                losses.append(landed)
                failures += 1
                heapq.heappush(resting, (run.now + RETRY_US, landed.address.lower(), landed.address))
            elif _too_stale(landed, run.step, max_staleness):
                losses.append(landed.lost(Failure.STALE))
                idle.append(landed.address)
            else:
                arrivals.append(landed)
            if len(arrivals) == buffer and (made := run.make(arrivals, losses)):
                yield made
                idle += [arrival.address for arrival in made.arrivals]
                failures = 0


def _too_stale(arrival: Arrival, step: int, bound: int | None) -> bool:
    return bound is not None and step - arrival.base_round > bound


def _bounded(max_staleness: int | None) -> None:
    if max_staleness is not None:
        whole("max_staleness", max_staleness, 0)


def _nobody() -> ConfigError:
    return ConfigError(
        "No update can arrive any more: devices are offline, out of battery, or too slow for as long as they last.",
        "Change the devices, or the number of updates that a step waits for.",
    )
