"""What a round costs a device: time and energy of local training and of the upload, in SI units.

Computation after Burd and Brodersen (1996) as in Tran, Bao, Zomaya, Nguyen and Hong, Federated Learning over Wireless
Networks, INFOCOM 2019. The link is that of the platform's own fleets (Shannon 1948), whose rates are whole bytes a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.platform.devices.link_presets import path_loss_db, shannon_capacity
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, Real

_Positive = Real(0, 1e18, above=True)


@dataclass(frozen=True)
class Training(Checked):
    """A local iteration.

    Parameters
    ----------
    kappa
        Effective switched capacitance in J·s²: a cycle costs κ·f². Some papers have half of it: a coefficient α with
        α / 2·C·D·f².
    cycles
        CPU cycles C for an example.
    examples
        Examples D.
    hertz
        Frequency f.
    """

    kappa: Annotated[float, Real(0, 1, above=True)] = 1e-28
    cycles: Annotated[float, _Positive] = 2e4
    examples: Annotated[float, _Positive] = 500.0
    hertz: Annotated[float, _Positive] = 2e9

    @property
    def joules(self) -> float:
        """κ·C·D·f²."""
        return self.kappa * self.cycles * self.examples * self.hertz**2

    @property
    def seconds(self) -> float:
        """C·D / f."""
        return self.cycles * self.examples / self.hertz


@dataclass(frozen=True)
class Upload(Checked):
    """An upload over a channel of its own, by Shannon's formula with the logarithm to the base 2.

    Parameters
    ----------
    bits
        How much is sent.
    bandwidth
        Of the channel, in Hz.
    transmit_dbm
        Power of the radio in dBm.
    distance
        To the station, in m.
    """

    bits: Annotated[float, _Positive] = 28_100.0
    bandwidth: Annotated[float, _Positive] = 20e6
    transmit_dbm: Annotated[float, Real(-100, 100)] = 10.0
    distance: Annotated[float, Real(1, 1e7)] = 500.0

    @property
    def watts(self) -> float:
        """Power of the radio."""
        return float(10 ** (self.transmit_dbm / 10) / 1000)

    @property
    def bits_per_second(self) -> float:
        """B·log2(1 + P·g / (N0·B)).

        Raises
        ------
        ConfigError
            If less than a bit a second gets through.
        """
        rate = shannon_capacity(self.bandwidth, self.watts, path_loss_db(self.distance))
        if rate < 1:
            raise ConfigError("This link carries less than a bit a second.", "Give it more power, or a shorter way.")
        return rate

    @property
    def seconds(self) -> float:
        """Bits / rate."""
        return self.bits / self.bits_per_second

    @property
    def joules(self) -> float:
        """Power · time."""
        return self.watts * self.seconds


def communication_efficiency(training: Training, upload: Upload, iterations: float = 1.0) -> float:
    """Return Comm / (Comp + Comm) of a round with so many local iterations; both in seconds."""
    return upload.seconds / (iterations * training.seconds + upload.seconds)
