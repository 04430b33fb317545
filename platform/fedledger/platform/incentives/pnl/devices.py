"""What a round of honest work costs a participant by its class of device, in credit units at a stated price.

Time and energy are those of the platform's closed forms (:mod:`fedledger.platform.incentives.theory.devices`): κ·C·D·f²
joules and C·D / f seconds for D examples. A joule and a second have one price each, so a slow device pays for its time
and a fast one for its energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Annotated

from fedledger.platform.devices.link_presets import PRESETS
from fedledger.platform.incentives.theory.devices import Training
from fedledger.protocol.methods.parameters import Checked, Real

CYCLES = 1_000_000.0
"""Processor cycles that training takes for an example, as in the platform's fleets."""
MEGABIT = 1e6 / 8


@dataclass(frozen=True)
class DeviceClass:
    """A class of devices.

    Parameters
    ----------
    name
        What it is called.
    hertz
        Its frequency f.
    kappa
        Its effective switched capacitance κ in J·s²; older processes have more.
    link
        A preset of the platform.
    """

    name: str
    hertz: float
    kappa: float
    link: str


LOW, MIDDLE, HIGH = "low-end", "mid-range", "high-end"
CLASSES = (
    DeviceClass(LOW, 1e9, 4e-28, "4g"),
    DeviceClass(MIDDLE, 2e9, 1.5e-28, "4g"),
    DeviceClass(HIGH, 3e9, 1e-28, "5g"),
)
"""Assumed, but for links and cycles: frequencies of cheap and of recent phones, and κ about that of the literature."""


@dataclass(frozen=True)
class Prices(Checked):
    """What work is worth to those who do it.

    Parameters
    ----------
    joule, second
        Credit units for a joule and for a second of a device.
    """

    joule: Annotated[float, Real(0, 1e9)] = 4_000.0
    second: Annotated[float, Real(0, 1e9)] = 4_000.0

    def of(self, joules: float, seconds: float) -> int:
        """Return credit units, rounded up."""
        return ceil(Fraction(self.joule) * Fraction(joules) + Fraction(self.second) * Fraction(seconds))


PRICES = Prices()
"""The default: 4,000 units for a joule and for a second, at which honest work costs about an eighth of its pay."""


def device_class(number: int) -> DeviceClass:
    """Return the class of an owner's device: the classes take turns."""
    return CLASSES[number % len(CLASSES)]


def training_cost(device: DeviceClass, examples: float, prices: Prices) -> int:
    """Return what it costs a device to train on so many examples, each time counted, in credit units."""
    if not examples:
        return 0
    work = Training(kappa=device.kappa, cycles=CYCLES, examples=float(examples), hertz=device.hertz)
    return prices.of(work.joules, work.seconds)


def upload_cost(device: DeviceClass, size: int, prices: Prices) -> int:
    """Return what it costs a device to send an update of so many bytes, in credit units."""
    link = PRESETS[device.link]
    seconds = size / (link.up_mbps * MEGABIT)
    return prices.of(link.transmit_w * seconds, seconds)
