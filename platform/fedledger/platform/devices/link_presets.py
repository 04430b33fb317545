"""Links: rates by Shannon's formula, and presets whose numbers say where they come from.

Logarithms are taken here, once, when a device table is written: the table holds the rate that was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, log10

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.schedules.devices import MICRO, Link

MEGABIT = 125_000
"""Bytes a second in 1 Mbit/s."""
NOISE_DBM_PER_HZ = -174.0
"""Thermal noise at 290 K."""
_HUANG = "Huang et al., MobiSys 2012, https://doi.org/10.1145/2307636.2307658"


@dataclass(frozen=True)
class Preset:
    """A link's typical numbers: rates in Mbit/s, one-way latency in ms, power of the radio in W; and their source."""

    down_mbps: float
    up_mbps: float
    latency_ms: float
    receive_w: float
    transmit_w: float
    source: str

    @property
    def link(self) -> Link:
        """The link."""
        return measured_link(self.down_mbps, self.up_mbps, self.latency_ms, self.receive_w, self.transmit_w)


PRESETS = {
    "4g": Preset(
        13.0,
        6.0,
        35.0,
        1.96,
        3.92,
        f"Rates: medians of LTE in {_HUANG}; latency: half of its median round trip of 70 ms; power: its model "
        "1288 mW + 52 mW a Mbit/s down, + 438 mW a Mbit/s up, at these rates.",
    ),
    "5g": Preset(
        100.0,
        50.0,
        4.0,
        2.0,
        4.0,
        "Rates: user experienced data rates that Report ITU-R M.2410-0 (2017) requires in dense urban eMBB; latency: "
        "its user plane bound for eMBB, the radio's part alone. Power: assumption, about 4G's.",
    ),
    "6g": Preset(
        300.0,
        150.0,
        1.0,
        2.0,
        4.0,
        "Assumption: no such network exists. Down: the lower of the two examples of a user experienced data rate in "
        "Recommendation ITU-R M.2160-0 (2023), latency the upper of its 0.1 to 1 ms; both are research targets. Up is "
        "half of down and power that of 5G, as nothing is known.",
    ),
    "wifi": Preset(
        50.0,
        50.0,
        2.0,
        1.0,
        1.2,
        "Assumption: a home access point of IEEE 802.11ac shared by a few devices; no measurement is behind it.",
    ),
    "satellite": Preset(
        104.71,
        14.84,
        22.5,
        75.0,
        75.0,
        "Rates: medians of Starlink users in the USA, first quarter of 2025; latency: half of the median of 45 ms; "
        "both by Ookla (Speedtest Intelligence, June 2025). Power: assumption, a terminal's average of 75 W, whatever "
        "it does.",
    ),
}


def preset(name: str) -> Link:
    """Return the link of a preset.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"There is no link {name!r}.", f"There are: {', '.join(sorted(PRESETS))}.")
    return PRESETS[name].link


def measured_link(
    down_mbps: float, up_mbps: float, latency_ms: float = 0.0, receive_w: float = 0.0, transmit_w: float = 0.0
) -> Link:
    """Return a link of constant rates (Mbit/s), one-way latency (ms) and radio power (W)."""
    return Link(
        rates=((0, round(down_mbps * MEGABIT), round(up_mbps * MEGABIT)),),
        latency_us=round(latency_ms * 1000),
        receive_uw=round(receive_w * MICRO),
        transmit_uw=round(transmit_w * MICRO),
    )


def path_loss_db(distance_m: float) -> float:
    """Return the path loss in dB over a distance in m: 128.1 + 37.6 log10(distance in km).

    Model 1 of an urban macro cell at 2 GHz in 3GPP TR 36.814, table A.2.1.1.2-3.
    """
    return 128.1 + 37.6 * log10(distance_m / 1000)


def shannon_capacity(
    bandwidth_hz: float, transmit_w: float, loss_db: float, noise_dbm_per_hz: float = NOISE_DBM_PER_HZ
) -> float:
    """Return a channel's capacity in bits a second: B log2(1 + P g / (N0 B)) (Shannon 1948).

    Parameters
    ----------
    bandwidth_hz
        Bandwidth B of the participant's channel.
    transmit_w
        Transmit power P.
    loss_db
        Path loss; g = 10^(−loss / 10).
    noise_dbm_per_hz
        Noise density N0.
    """
    if not (bandwidth_hz > 0 and transmit_w >= 0):
        raise ConfigError("A channel needs a bandwidth above 0 and a power of at least 0.")
    gain = 10 ** (-loss_db / 10)
    noise_w = 10 ** (noise_dbm_per_hz / 10) / 1000 * bandwidth_hz
    return bandwidth_hz * log2(1 + transmit_w * gain / noise_w)


def shannon_rate(
    bandwidth_hz: float, transmit_w: float, loss_db: float, noise_dbm_per_hz: float = NOISE_DBM_PER_HZ
) -> int:
    """Return a channel's capacity in whole bytes a second; its parameters are those of `shannon_capacity`."""
    return int(shannon_capacity(bandwidth_hz, transmit_w, loss_db, noise_dbm_per_hz) / 8)
