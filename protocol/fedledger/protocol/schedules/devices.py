"""Devices of a task's participants: what a round takes them in time and energy, in whole microseconds and microjoules.

The device table is a canonical document that a task may name by CID. All its numbers are integers, and so is the
arithmetic here, so every machine finds the same times. What needs a logarithm, a link's rate by Shannon's formula, was
computed once by whoever wrote the table (:mod:`fedledger.platform.devices.link_presets`).

A participant's round, its *trip*, has three parts: it downloads the base model, computes, and uploads its update.

- A transfer of B bytes at rate r takes a latency and then B/r, and costs the radio's power times B/r. A rate may change
  during it.
- Computing over n examples takes n·c/f, with c cycles an example and f cycles a second, and costs n·c·e, with e the
  energy of a cycle. In the usual model e = κ·f², with κ the effective switched capacitance (Burd and Brodersen, 1996).
- A harvesting device gains its power times the time, up to its battery's capacity.

Times round up, energies spent round up, energies gained round down.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fedledger.protocol.documents import Document, validated
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.strict import is_address, shown
from fedledger.protocol.errors import ConfigError

MICRO = 1_000_000
FEMTO_PER_MICRO = 1_000_000_000
MAX_TRACE = 100_000
_first = itemgetter(0)

Whole = Annotated[int, Field(ge=0, lt=2**53)]
Positive = Annotated[int, Field(ge=1, lt=2**53)]


class LossReason(Enum):
    """Why a participant's update does not arrive, or does not count."""

    OFFLINE = "offline"
    BATTERY = "battery"
    LINK = "link"
    LATE = "late"
    STALE = "stale"
    ABANDONED = "abandoned"


class Link(Document):
    """A link.

    ``rates`` are triples (from µs, down bytes/s, up bytes/s), the first from 0; each holds until the next one, the last
    one until the period ends or, without a period, for ever. ``latency_us`` is one way and added to each transfer;
    powers, in µW, are those of the device's radio while it receives and while it transmits.
    """

    rates: tuple[tuple[Whole, Whole, Whole], ...] = Field(min_length=1, max_length=MAX_TRACE)
    period_us: Whole = 0
    latency_us: Whole = 0
    receive_uw: Whole = 0
    transmit_uw: Whole = 0

    @model_validator(mode="after")
    def _in_order(self) -> Link:
        starts = [start for start, _, _ in self.rates]
        if starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
            raise ValueError("rates start at 0 and follow each other in time")
        if self.period_us and starts[-1] >= self.period_us:
            raise ValueError("rates start before the period ends")
        return self

    def download_us(self, size: int, start_us: int) -> int | None:
        """Return what a download of ``size`` bytes takes from ``start_us``; None if it never ends."""
        return self._transfer_us(size, start_us, 1)

    def upload_us(self, size: int, start_us: int) -> int | None:
        """Return what an upload of ``size`` bytes takes from ``start_us``; None if it never ends."""
        return self._transfer_us(size, start_us, 2)

    def _transfer_us(self, size: int, start_us: int, way: int) -> int | None:
        if not size:
            return self.latency_us
        starts, volumes, last = self._starts, self._volumes[way - 1], self.rates[-1][way]
        time, period = start_us + self.latency_us, self.period_us
        offset = time % period if period else time
        place = bisect_right(starts, offset) - 1
        # What the link could have carried since its start, or since the period's, when the transfer is over.
        target = volumes[place] + self.rates[place][way] * (offset - starts[place]) + size * MICRO
        begun = time - offset
        if period:
            whole = volumes[-1] + last * (period - starts[-1])
            if not whole:
                return None
            periods, target = divmod(target - 1, whole)
            begun, target = begun + periods * period, target + 1
        place = bisect_left(volumes, target) - 1
        rate = self.rates[place][way]
        if not rate:
            return None
        return begun + starts[place] + _ceil_div(target - volumes[place], rate) - start_us

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _, _ in self.rates]

    @cached_property
    def _volumes(self) -> tuple[list[int], list[int]]:
        """What the link can carry down, and up, from its start until each rate begins: bytes times µs a second."""
        parts = [[rate[way] * (following[0] - rate[0]) for rate, following in pairwise(self.rates)] for way in (1, 2)]
        down, up = (list(accumulate(part, initial=0)) for part in parts)
        return down, up


class Battery(Document):
    """A battery: capacity and charge at time 0 in µJ, and what is harvested in µW."""

    capacity_uj: Whole
    charge_uj: Whole
    harvest_uw: Whole = 0

    @model_validator(mode="after")
    def _fits(self) -> Battery:
        if self.charge_uj > self.capacity_uj:
            raise ValueError("the charge is above the capacity")
        return self

    def after(self, charge_uj: int, parts: Sequence[tuple[int, int]]) -> tuple[int, int | None]:
        """Return the charge after parts (µs, µJ spent evenly), and after how long it is empty, if it is on the way."""
        passed = 0
        for duration, spent in parts:
            gained = self.harvest_uw * duration // MICRO
            if charge_uj + gained < spent:
                return 0, passed + duration * charge_uj // (spent - gained)
            charge_uj = min(self.capacity_uj, charge_uj + gained - spent)
            passed += duration
        return charge_uj, None


@dataclass(frozen=True)
class Trip:
    """A participant's round: µs and µJ of download, computation and upload, as far as it came, and why no further."""

    download_us: int
    compute_us: int
    upload_us: int
    download_uj: int
    compute_uj: int
    upload_uj: int
    failure: LossReason | None = None

    @property
    def duration_us(self) -> int:
        """Time of all parts."""
        return self.download_us + self.compute_us + self.upload_us

    @property
    def energy_uj(self) -> int:
        """Energy of all parts."""
        return self.download_uj + self.compute_uj + self.upload_uj

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """Time and energy of each part, in order."""
        return (
            (self.download_us, self.download_uj),
            (self.compute_us, self.compute_uj),
            (self.upload_us, self.upload_uj),
        )

    def cut(self, after_us: int, failure: LossReason) -> Trip:
        """Return the trip as it is given up after so long."""
        left, parts = after_us, []
        for duration, energy in self.parts:
            took = min(left, duration)
            parts.append((took, _ceil_div(energy * took, duration) if duration else energy))
            left -= took
        (download, a), (compute, b), (upload, c) = parts
        return Trip(download, compute, upload, a, b, c, failure)


class Device(Document):
    """A participant's device.

    ``examples`` is over how many it computes in a round: its examples times its local epochs. ``online`` are the
    windows (from µs, to µs) in which it can be reached and works; empty: always. They repeat with the period, if there
    is one. Without a battery it has mains.
    """

    examples: Positive
    cycles_per_second: Positive
    cycles_per_example: Positive
    cycle_energy_fj: Whole = 0
    link: Link
    battery: Battery | None = None
    online: tuple[tuple[Whole, Whole], ...] = Field(default=(), max_length=MAX_TRACE)
    online_period_us: Whole = 0

    @model_validator(mode="after")
    def _in_order(self) -> Device:
        bounds = [bound for window in self.online for bound in window]
        if any(a >= b for a, b in pairwise(bounds)):
            raise ValueError("online windows follow each other in time with gaps between them")
        if self.online_period_us and bounds and bounds[-1] > self.online_period_us:
            raise ValueError("online windows end within the period")
        return self

    def online_until(self, time_us: int) -> int | None:
        """Return until when the device is reachable from ``time_us``: that time itself if it is not, None for ever."""
        windows, period = self.online, self.online_period_us
        if not windows:
            return None
        offset = time_us % period if period else time_us
        place = bisect_right(windows, offset, key=_first) - 1
        if place < 0 or offset >= windows[place][1]:
            return time_us
        end = windows[place][1]
        if period and end == period and windows[0][0] == 0:
            if len(windows) == 1:
                return None
            end += windows[0][1]
        return time_us - offset + end

    def next_online(self, time_us: int) -> int | None:
        """Return when the device is next reachable, at or after ``time_us``; None if never."""
        if self.online_until(time_us) != time_us:
            return time_us
        windows, period = self.online, self.online_period_us
        offset = time_us % period if period else time_us
        place = bisect_right(windows, offset, key=_first)
        if place < len(windows):
            return time_us - offset + windows[place][0]
        return time_us - offset + period + windows[0][0] if period else None


class DeviceTable(Document):
    """A task's devices by owner address, and what a round sends each way: the bytes that really travel.

    Sizes are known beforehand because models and updates are dense: each round's have the same length. So the schedule
    of a whole task can be computed before any training.
    """

    version: Literal[1] = 1
    bytes_down: Whole
    bytes_up: Whole
    devices: dict[str, Device] = Field(min_length=1)

    @field_validator("devices")
    @classmethod
    def _addresses(cls, devices: dict[str, Device]) -> dict[str, Device]:
        for address in devices:
            if not is_address(address):
                raise ValueError(f"{shown(address)} is not an address")
        if len({address.lower() for address in devices}) < len(devices):
            raise ValueError("an address occurs twice")
        return devices

    @property
    def addresses(self) -> list[str]:
        """The addresses in their order."""
        return sorted(self.devices, key=str.lower)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.encode(self.model_dump())

    @classmethod
    def decode(cls, data: bytes) -> DeviceTable:
        """Read a table from its canonical bytes.

        Raises
        ------
        ConfigError
            If the bytes are not a canonical device table.
        """
        try:
            document = canonical.decode(data)
        except ValueError as error:
            raise ConfigError(f"The device table cannot be read: {error}.") from error
        if not isinstance(document, dict):
            raise ConfigError("The device table is not a document.")
        table = validated(cls, document, "the device table")
        if table.encode() != data:
            raise ConfigError("The device table is not in its canonical form.")
        return table

    def trip(self, address: str, start_us: int = 0, charge_uj: int | None = None) -> Trip:
        """Return a participant's trip from ``start_us`` on, as far as it comes.

        Parameters
        ----------
        address
            The participant.
        start_us
            When it starts.
        charge_uj
            The battery's charge at the start; None: as at time 0.

        Notes
        -----
        A device that goes offline, or whose battery is empty, gives up then. A transfer that can never end, as the
        link's rate stays at 0, is given up when it starts.
        """
        device = self.devices[address]
        trip = self._unlimited(device, start_us)
        until, limits = device.online_until(start_us), []
        if until is not None and start_us + trip.duration_us > until:
            limits.append((until - start_us, LossReason.OFFLINE))
        if device.battery is not None:
            charge = device.battery.charge_uj if charge_uj is None else charge_uj
            _, empty = device.battery.after(charge, trip.parts)
            if empty is not None:
                limits.append((empty, LossReason.BATTERY))
        return trip.cut(*min(limits, key=_first)) if limits else trip

    def nominal(self, address: str) -> Trip:
        """Return a participant's trip at time 0, had it mains and were it always online."""
        return self._unlimited(self.devices[address], 0)

    def _unlimited(self, device: Device, start_us: int) -> Trip:
        link = device.link
        trip = Trip(0, 0, 0, 0, 0, 0, LossReason.LINK)
        download = link.download_us(self.bytes_down, start_us)
        if download is None:
            return trip
        cycles = device.examples * device.cycles_per_example
        compute = _ceil_div(cycles * MICRO, device.cycles_per_second)
        trip = replace(
            trip,
            download_us=download,
            compute_us=compute,
            download_uj=_ceil_div(link.receive_uw * (download - link.latency_us), MICRO),
            compute_uj=_ceil_div(cycles * device.cycle_energy_fj, FEMTO_PER_MICRO),
        )
        upload = link.upload_us(self.bytes_up, start_us + download + compute)
        if upload is None:
            return trip
        energy = _ceil_div(link.transmit_uw * (upload - link.latency_us), MICRO)
        return replace(trip, upload_us=upload, upload_uj=energy, failure=None)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
