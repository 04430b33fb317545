"""Fleets: from the mix that a configuration describes to the device table of a task's participants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from fedledger.platform.devices.link_presets import PRESETS, measured_link, path_loss_db, preset, shannon_rate
from fedledger.platform.devices.traces import read_online, read_rates
from fedledger.protocol.codecs.payload import Slot
from fedledger.protocol.documents import Document
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.settlement import apportion
from fedledger.protocol.records.update import UpdateHeader, encoded_length
from fedledger.protocol.schedules.devices import MICRO, Battery, Device, DeviceTable, Link

FEMTO = 10**15
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Window = tuple[int, int]
Rates = tuple[tuple[int, int, int], ...]
Some = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]


class ShannonConfig(Document):
    """A participant's own channel in a cell: rates by Shannon's formula at a distance drawn uniformly over the disc."""

    bandwidth_mhz: Some = 1.0
    transmit_w: Some = Field(default=0.2, description="of the device: 23 dBm, power class 3 of 3GPP TS 36.101")
    station_w: Some = Field(default=1.0, description="what the base station spends on this channel")
    nearest_m: Some = 35.0
    farthest_m: Some = 500.0
    receive_w: Amount = 0.0
    latency_ms: Amount = 0.0

    def draw(self, rng: np.random.Generator) -> Link:
        """Return the link at a distance that is drawn."""
        near, far = self.nearest_m, max(self.nearest_m, self.farthest_m)
        loss = path_loss_db(float(np.sqrt(near * near + rng.random() * (far * far - near * near))))
        down = shannon_rate(self.bandwidth_mhz * 1e6, self.station_w, loss)
        up = shannon_rate(self.bandwidth_mhz * 1e6, self.transmit_w, loss)
        link = measured_link(0, 0, self.latency_ms, self.receive_w, self.transmit_w)
        return link.model_copy(update={"rates": ((0, down, up),)})


class KindConfig(Document):
    """Some of the devices: a share of them, and their link.

    The link is a preset; or measured rates; or Shannon's. A trace replaces a preset's rates.
    """

    share: Some = Field(default=1.0, description="relative to the other kinds' shares")
    link: str | None = Field(default=None, description=f"one of {', '.join(PRESETS)}")
    down_mbps: Amount | None = None
    up_mbps: Amount | None = None
    latency_ms: Amount = 0.0
    receive_w: Amount = 0.0
    transmit_w: Amount = 0.0
    shannon: ShannonConfig | None = None
    rates: str | None = Field(default=None, description="CSV of rates over time")
    rates_period_s: Amount = Field(default=0.0, description="after which they repeat; 0: never")
    online: str | None = Field(default=None, description="CSV of the windows in which a device is online")
    online_period_s: Amount = 0.0
    shift_online: bool = Field(default=False, description="each device's windows begin elsewhere in the period")

    @model_validator(mode="after")
    def _one_link(self) -> KindConfig:
        measured = self.down_mbps is not None and self.up_mbps is not None
        if (self.link is not None) + measured + (self.shannon is not None) != 1:
            raise ValueError("give one of: link; down_mbps and up_mbps; shannon")
        return self


class FleetConfig(Document):
    """Devices of an experiment's participants; everything that is drawn follows from the experiment's seed."""

    kinds: list[KindConfig] = Field(min_length=1)
    gigahertz: Some = Field(default=1.0, description="frequency of the fastest devices")
    spread: float = Field(
        default=1.0, ge=1, le=1e6, description="how many times slower the slowest may be, log-uniform"
    )
    cycles_per_example: int = Field(default=1_000_000, ge=1, lt=2**53)
    kappa: Amount = Field(default=1e-28, description="effective switched capacitance: a cycle costs kappa · f² joules")
    cycle_nj: Amount | None = Field(default=None, description="energy of a cycle, in place of kappa")
    battery_j: Some | None = Field(default=None, description="none: mains")
    least_charge: float = Field(
        default=1.0, ge=0, le=1, description="charges are drawn uniformly from this share to full"
    )
    harvest_w: Amount = 0.0


def draw_fleet(
    config: FleetConfig,
    addresses: Sequence[str],
    examples: Sequence[int],
    bytes_down: int,
    bytes_up: int,
    seed: int,
    folder: Path = Path(),
) -> DeviceTable:
    """Draw the devices of participants.

    Each kind gets its share of them exactly, as far as whole numbers allow; who gets which is drawn.

    Parameters
    ----------
    config
        The mix.
    addresses
        The participants.
    examples
        Over how many examples each computes in a round: its own times the local epochs.
    bytes_down, bytes_up
        What a round sends each way.
    seed
        The experiment's seed.
    folder
        Paths of traces are relative to it.

    Raises
    ------
    ConfigError
        If a link or a trace is wrong.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0xF1EE7])))
    shares = apportion(len(addresses), [round(kind.share * MICRO) for kind in config.kinds])
    places = [place for place, share in enumerate(shares) for _ in range(share)]
    order = rng.permutation(len(places))
    kinds = [_Kind.read(kind, folder) for kind in config.kinds]
    devices = {}
    for address, computed, number in zip(addresses, examples, order, strict=True):
        devices[address] = _draw_device(config, kinds[places[number]], computed, rng)
    return DeviceTable(bytes_down=bytes_down, bytes_up=bytes_up, devices=devices)


@dataclass(frozen=True)
class _Kind:
    """Some of the devices, with the traces that their configuration names."""

    config: KindConfig
    rates: Rates | None
    online: tuple[Window, ...]

    @classmethod
    def read(cls, config: KindConfig, folder: Path) -> _Kind:
        rates = None if config.rates is None else read_rates(folder / config.rates)
        return cls(config, rates, () if config.online is None else read_online(folder / config.online))

    def link(self, rng: np.random.Generator) -> Link:
        link = _link(self.config, rng)
        if self.rates is None:
            return link
        period = round(self.config.rates_period_s * MICRO)
        return link.model_copy(update={"rates": self.rates, "period_us": period})

    def windows(self, rng: np.random.Generator) -> tuple[tuple[Window, ...], int]:
        """Return a device's windows online and their period in microseconds."""
        period = round(self.config.online_period_s * MICRO)
        windows = self.online
        if self.config.shift_online and period:
            windows = _shifted(windows, period, int(rng.integers(period)))
        return windows, period if windows else 0


def _draw_device(config: FleetConfig, kind: _Kind, examples: int, rng: np.random.Generator) -> Device:
    """Draw a device: its frequency, its link, its windows and its battery, in this order."""
    frequency = config.gigahertz * 1e9 * config.spread ** -rng.random()
    joules = config.kappa * frequency * frequency if config.cycle_nj is None else config.cycle_nj * 1e-9
    link = kind.link(rng)
    windows, period = kind.windows(rng)
    fields = {
        "examples": max(1, examples),
        "cycles_per_second": max(1, round(frequency)),
        "cycles_per_example": config.cycles_per_example,
        "cycle_energy_fj": round(joules * FEMTO),
        "link": link.model_dump(),
        "battery": _battery(config, rng),
        "online": windows,
        "online_period_us": period,
    }
    try:
        return Device.model_validate(fields)
    except ValueError as error:
        raise ConfigError(f"The configuration describes an impossible device: {error}.", "Check its traces.") from error


def _link(kind: KindConfig, rng: np.random.Generator) -> Link:
    if kind.shannon is not None:
        return kind.shannon.draw(rng)
    if kind.link is not None:
        return preset(kind.link)
    return measured_link(kind.down_mbps or 0.0, kind.up_mbps or 0.0, kind.latency_ms, kind.receive_w, kind.transmit_w)


def _battery(config: FleetConfig, rng: np.random.Generator) -> Battery | None:
    if config.battery_j is None:
        return None
    capacity = round(config.battery_j * MICRO)
    charge = round(capacity * (config.least_charge + (1 - config.least_charge) * rng.random()))
    return Battery(capacity_uj=capacity, charge_uj=min(charge, capacity), harvest_uw=round(config.harvest_w * MICRO))


def _shifted(windows: Sequence[Window], period: int, shift: int) -> tuple[Window, ...]:
    """Return windows of a period, all later by ``shift``; one that would lie across the period's end is cut in two."""
    if windows and windows[-1][1] > period:
        raise ConfigError("A trace has a window that ends after its period.", "Increase online_period_s.")
    moved = []
    for begin, end in windows:
        first, last = (begin + shift) % period, (begin + shift) % period + end - begin
        moved += [(first, last)] if last <= period else [(first, period), (0, last - period)]
    joined: list[tuple[int, int]] = []
    for window in sorted(moved):
        if joined and joined[-1][1] == window[0]:
            joined[-1] = (joined[-1][0], window[1])
        else:
            joined.append(window)
    return tuple(joined)


def update_size(payload: Sequence[Slot], rounds: int) -> int:
    """Return an upper bound on the length of an encoded update in bytes: that of the largest header and tensors.

    A dense update is never more than a few digits of its header shorter. One of ``top_k@1`` is shorter by what its
    positions save where the last of them is not the vector's last.

    Parameters
    ----------
    payload
        The vectors that an update carries.
    rounds
        The task's last round.
    """
    header = UpdateHeader(
        spec="0" * 64,
        round=rounds,
        participant="0x" + "0" * 40,
        base="0" * 64,
        examples=2**20 - 1,
        steps=2**20 - 1,
        codec="coded",
        vectors=sorted(slot.name for slot in payload),
        payload="0" * 64,
    )
    return encoded_length(header, {slot.name: slot.codec.largest(slot.length) for slot in payload})
