"""Links, traces and fleets: from a configuration to a device table."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.platform.devices.fleet import FleetConfig, _shifted, draw_fleet, update_size
from fedledger.platform.devices.link_presets import MEGABIT, PRESETS, path_loss_db, preset, shannon_rate
from fedledger.platform.devices.traces import read_online, read_rates
from fedledger.protocol.codecs.payload import payload_slots
from fedledger.protocol.documents import validated
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.update import UpdateHeader, encode
from fedledger.protocol.schedules.devices import DeviceTable, Link

MIX = {"kinds": [{"share": 4, "link": "4g"}, {"share": 4, "link": "5g"}, {"share": 2, "link": "6g"}], "spread": 10}


def draw(document: dict[str, Any], count: int = 50, seed: int = 1, folder: Path = Path()) -> DeviceTable:
    config = validated(FleetConfig, document, "the devices")
    addresses = [f"0x{i:040x}" for i in range(count)]
    return draw_fleet(config, addresses, [10 + i for i in range(count)], 1000, 500, seed, folder)


def test_a_preset_is_a_link_with_a_source() -> None:
    for name, known in PRESETS.items():
        link = preset(name)
        assert link.rates == ((0, round(known.down_mbps * MEGABIT), round(known.up_mbps * MEGABIT)),)
        assert len(known.source) > 40
    assert preset("5g").download_us(MEGABIT, 0) == 10_000 + 4_000
    assert all("ssumption" in PRESETS[name].source for name in ("6g", "wifi"))
    with pytest.raises(ConfigError, match="There are: 4g, 5g, 6g, satellite, wifi"):
        preset("7g")


def test_a_rate_by_shannon() -> None:
    # With as much signal as noise a hertz carries a bit.
    noise_w = 10 ** (-174 / 10) / 1000 * 8e6
    assert shannon_rate(8e6, noise_w, 0.0) == pytest.approx(1e6, abs=2)
    assert shannon_rate(8e6, 0.0, 100.0) == 0
    assert path_loss_db(1000) == 128.1 and path_loss_db(100) == pytest.approx(128.1 - 37.6)
    assert shannon_rate(1e6, 0.2, path_loss_db(100)) > shannon_rate(1e6, 0.2, path_loss_db(500)) > 0
    with pytest.raises(ConfigError):
        shannon_rate(0, 1, 1)


def test_a_mix_is_drawn_exactly_and_follows_from_the_seed() -> None:
    table = draw(MIX)
    rates = Counter(device.link.rates for device in table.devices.values())
    assert [rates[preset(name).rates] for name in ("4g", "5g", "6g")] == [20, 20, 10]
    assert table == draw(MIX) and table != draw(MIX, seed=2)
    assert DeviceTable.decode(table.encode()) == table
    speeds = [device.cycles_per_second for device in table.devices.values()]
    assert 1e8 <= min(speeds) < 2e8 and 8e8 < max(speeds) <= 1e9
    assert [device.examples for device in table.devices.values()] == list(range(10, 60))


def test_energy_grows_with_the_square_of_the_frequency() -> None:
    devices = draw(MIX).devices.values()
    for device in devices:
        # κ f² = 1e-28 · f² J, so 100 pJ at 1 GHz.
        assert device.cycle_energy_fj == pytest.approx(1e5 * (device.cycles_per_second / 1e9) ** 2, abs=1)
    assert {d.cycle_energy_fj for d in draw({**MIX, "cycle_nj": 2}).devices.values()} == {2_000_000}


def test_a_cell_with_shannons_rates() -> None:
    table = draw({"kinds": [{"shannon": {"farthest_m": 400, "latency_ms": 5}}]})
    downs = [device.link.rates[0][1] for device in table.devices.values()]
    best, worst = (shannon_rate(1e6, 1.0, path_loss_db(d)) for d in (35, 400))
    assert len(set(downs)) > 40 and worst <= min(downs) < max(downs) <= best
    assert all(
        device.link.latency_us == 5000 and device.link.transmit_uw == 200_000 for device in table.devices.values()
    )


def test_batteries() -> None:
    table = draw({**MIX, "battery_j": 10, "least_charge": 0.5, "harvest_w": 0.25})
    batteries = [device.battery for device in table.devices.values()]
    assert all(b is not None and 5e6 <= b.charge_uj <= b.capacity_uj == 10**7 for b in batteries)
    assert all(b is not None and b.harvest_uw == 250_000 for b in batteries)


def test_traces(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("time_s,up_mbps,down_mbps\n0,4,8\n1.5,0,16\n")
    (tmp_path / "online.csv").write_text("from_s,to_s\r\n0,10\r\n20.5,30\r\n")
    kind = {"link": "wifi", "rates": "rates.csv", "rates_period_s": 2, "online": "online.csv", "online_period_s": 40}
    device = next(iter(draw({"kinds": [kind]}, 1, folder=tmp_path).devices.values()))
    assert device.link.rates == ((0, 10**6, 500_000), (1_500_000, 2 * 10**6, 0)) and device.link.period_us == 2_000_000
    assert device.link.latency_us == preset("wifi").latency_us
    assert device.online == ((0, 10_000_000), (20_500_000, 30_000_000)) and device.online_period_us == 40_000_000
    moved = draw({"kinds": [{**kind, "shift_online": True}]}, 20, folder=tmp_path)
    assert len({device.online for device in moved.devices.values()}) == 20
    with pytest.raises(ConfigError, match="period"):
        draw({"kinds": [{**kind, "shift_online": True, "online_period_s": 25}]}, 1, folder=tmp_path)
    with pytest.raises(ConfigError, match="describes an impossible device"):
        draw({"kinds": [{**kind, "rates_period_s": 1}]}, 1, folder=tmp_path)
    with pytest.raises(ConfigError, match="describes an impossible device"):
        draw({"kinds": [{**kind, "online_period_s": 25}]}, 1, folder=tmp_path)


@given(st.sets(st.integers(0, 40), min_size=2, max_size=8), st.integers(0, 39))
def test_shifted_windows_are_online_as_much_later(bounds: set[int], shift: int) -> None:
    ordered = sorted(bounds)
    windows = list(zip(ordered[::2], ordered[1::2], strict=False))
    moved = _shifted(windows, 40, shift)

    def online(spans: Any) -> set[int]:
        return {t for a, b in spans for t in range(a, b)}

    assert online(moved) == {(t + shift) % 40 for t in online(windows)}
    assert all(a[1] < b[0] for a, b in pairwise(moved))


HEADER = "time_s,down_mbps,up_mbps\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: the columns are not time_s, down_mbps, up_mbps"),
        ("time,down,up\n0,1,1\n", "line 1: the columns"),
        (HEADER, "line 2: there is nothing"),
        (HEADER + "1,1,1\n", "line 2: the first time is not 0"),
        (HEADER + "0,1,1\n0,1,1\n", "line 3: its time is not after"),
        (HEADER + "0,1\n", "line 2: it has 2 fields, not 3"),
        (HEADER + "0,1,1,1\n", "line 2: it has 4 fields"),
        (HEADER + "0,-1,1\n", "line 2: '-1' is not a number"),
        (HEADER + "0,nan,1\n", "line 2: 'nan' is not a number"),
        (HEADER + "0,inf,1\n", "line 2: 'inf'"),
        (HEADER + "0,1e3,1\n", "line 2: '1e3'"),
        (HEADER + "0,1_000,1\n", "line 2: '1_000'"),
        (HEADER + "0,١,1\n", "line 2: "),
        (HEADER + "0," + "9" * 31 + ",1\n", "line 2: "),
        (HEADER + "0," + "9" * 300_000 + ",1\n", "not a CSV file"),
        (HEADER + "0,,1\n", "line 2: '' is not a number"),
        (HEADER + "0,1,1\n\n5,1,x\n", "line 4: 'x'"),
        (b"\xff\xfe\x00", "not a CSV file"),
        (HEADER + "0,1,\x00\n", "line 2|no CSV file"),
        (HEADER + "".join(f"{i},1,1\n" for i in range(100_001)), "line 100001: there are more"),
    ],
    ids=range(20),
)
def test_a_trace_that_is_wrong_names_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        read_rates(path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("5,5", "line 2: its window ends before it begins"),
        ("1,2\n2,3", "line 3: its window does not begin after"),
        ("3,4\n1,2", "line 3: its window does not"),
    ],
)
def test_windows_that_are_wrong_name_their_line(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("from_s,to_s\n" + lines)
    with pytest.raises(ConfigError, match=message):
        read_online(path)


def test_a_trace_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_rates(path)


@pytest.mark.parametrize(
    "document",
    [
        {"kinds": []},
        {"kinds": [{}]},
        {"kinds": [{"link": "4g", "down_mbps": 1, "up_mbps": 1}]},
        {"kinds": [{"down_mbps": 1}]},
        {"kinds": [{"link": "4g", "share": 0}]},
        {"kinds": [{"link": "4g"}], "spread": 0.5},
        {"kinds": [{"link": "4g"}], "gigahertz": math.inf},
        {"kinds": [{"link": "7g"}]},
    ],
)
def test_a_mix_that_makes_no_sense_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        draw(document)


def test_the_size_of_an_update_is_what_is_sent() -> None:
    header = UpdateHeader(
        spec="a" * 64,
        round=7,
        participant="0x" + "b" * 40,
        base="c" * 64,
        examples=1000,
        steps=10,
        vectors=["delta"],
        payload="d" * 64,
    )
    sent = encode(header, {"delta": np.ones(1000, np.float32)}, b"\x02" * 32)
    assert 0 <= update_size(payload_slots((), (), 1000), 20) - len(sent) < 20
    assert isinstance(preset("4g"), Link)


def test_the_benchmark_of_schedules_runs() -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "schedules.py"
    command = [sys.executable, str(script), "--steps", "4", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    rows = {(row["workload"], row["schedule"]): row for row in json.loads(done.stdout)}
    for workload in ("digits", "heavy", "mlp", "cnn"):
        synchronous = rows[workload, "synchronous, 10 of 100"]
        buffered = rows[workload, "fedbuff, K 10, 10 at a time"]
        assert synchronous["updates"] == buffered["updates"] == 40
        assert buffered["seconds"] < synchronous["seconds"]
        # With K = N nobody is asked again before all are there.
        assert (
            rows[workload, "synchronous, all 100"]["seconds"]
            == (rows[workload, "fedbuff, K 100, 100 at a time"]["seconds"])
        )
