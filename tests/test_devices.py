"""Devices and links: cases that can be checked by hand, and what holds for all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.schedules.devices import Battery, Device, DeviceTable, Link, LossReason
from support.examples import examples

A, B = "0x" + "aa" * 20, "0x" + "bb" * 20
SECOND = 1_000_000
STEADY = Link(rates=((0, 1000, 500),), latency_us=10_000, receive_uw=1_000_000, transmit_uw=2_000_000)


def device(**changes: Any) -> Device:
    """A device that computes 10 examples of 100 cycles at 1 kHz and 2 µJ a cycle: 1 s, 2,000 µJ."""
    fields = {"examples": 10, "cycles_per_second": 1000, "cycles_per_example": 100, "cycle_energy_fj": 2 * 10**9}
    return Device(**{**fields, "link": STEADY, **changes})


def table(**changes: Any) -> DeviceTable:
    """One device that downloads 2,000 bytes in 2.01 s and uploads 1,000 in 2.01 s."""
    return DeviceTable(bytes_down=2000, bytes_up=1000, devices={A: device(**changes)})


def test_a_trip_by_hand() -> None:
    trip = table().trip(A)
    assert (trip.download_us, trip.compute_us, trip.upload_us) == (2_010_000, 1_000_000, 2_010_000)
    # The radio draws 1 W for 2 s and 2 W for 2 s; latency costs nothing.
    assert (trip.download_uj, trip.compute_uj, trip.upload_uj) == (2 * SECOND, 2000, 4 * SECOND)
    assert trip.failure is None and trip.duration_us == 5_020_000 and trip.energy_uj == 6_002_000


def test_a_rate_that_changes_during_a_transfer() -> None:
    link = Link(rates=((0, 100, 1), (SECOND, 0, 1), (3 * SECOND, 50, 1)))
    # 100 bytes in the first second, nothing for two, then 50 bytes a second.
    assert [link.download_us(size, 0) for size in (50, 100, 150, 151)] == [500_000, SECOND, 4 * SECOND, 4_020_000]
    assert link.download_us(10, 2 * SECOND) == SECOND + 200_000


def test_a_rate_that_repeats() -> None:
    link = Link(rates=((0, 100, 1), (SECOND, 0, 1)), period_us=2 * SECOND)
    assert link.download_us(150, 0) == 2_500_000
    assert link.download_us(100, SECOND // 2) == 2 * SECOND
    assert link.download_us(100 * 10**9, 0) == (2 * 10**9 - 1) * SECOND
    assert Link(rates=((0, 0, 1),), period_us=SECOND).download_us(1, 0) is None


def test_a_transfer_that_never_ends_is_given_up_when_it_starts() -> None:
    assert table(link=Link(rates=((0, 0, 1),))).trip(A).failure is LossReason.LINK
    trip = table(link=Link(rates=((0, 1000, 500), (SECOND, 1000, 0)))).trip(A)
    assert (trip.download_us, trip.compute_us, trip.upload_us, trip.failure) == (2 * SECOND, SECOND, 0, LossReason.LINK)


def test_who_goes_offline_gives_up_then() -> None:
    trip = table(online=((0, 2_510_000),)).trip(A)
    assert trip.failure is LossReason.OFFLINE and trip.duration_us == 2_510_000
    assert (trip.compute_us, trip.compute_uj, trip.upload_us, trip.upload_uj) == (500_000, 1000, 0, 0)
    assert table(online=((0, 5_020_000),)).trip(A).failure is None


def test_an_empty_battery_ends_a_trip() -> None:
    # One second's download of two.
    trip = table(battery=Battery(capacity_uj=SECOND, charge_uj=SECOND)).trip(A)
    assert trip.failure is LossReason.BATTERY and trip.duration_us == 1_005_000 and trip.energy_uj == SECOND
    # What is harvested in time saves it: about 0.9 W are needed while it downloads, 1.5 W while it uploads.
    battery = Battery(capacity_uj=SECOND, charge_uj=SECOND, harvest_uw=2_000_000)
    assert table(battery=battery).trip(A).failure is None
    assert battery.after(SECOND, [(SECOND, 2 * SECOND), (SECOND, 0)]) == (SECOND, None)


def test_windows_that_repeat() -> None:
    wrapping = device(online=((0, 10), (50, 100)), online_period_us=100)
    assert [wrapping.online_until(t) for t in (0, 9, 10, 49, 50, 99, 150)] == [10, 10, 10, 49, 110, 110, 210]
    assert [wrapping.next_online(t) for t in (0, 10, 60, 110)] == [0, 50, 60, 150]
    assert device(online=((0, 100),), online_period_us=100).online_until(5) is None
    once = device(online=((10, 20),))
    assert [once.next_online(t) for t in (0, 15, 20)] == [10, 15, None]


rate_traces = st.lists(st.tuples(st.integers(1, 500), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=5)


@examples(40)
@given(rate_traces, st.booleans(), st.integers(0, 3000), st.integers(1, 40))
def test_a_transfer_takes_as_long_as_its_bytes_need(
    pieces: list[tuple[int, int, int]], repeats: bool, start: int, size: int
) -> None:
    """The oracle adds up what each microsecond carries."""
    starts = [sum(length for length, _, _ in pieces[:i]) for i in range(len(pieces))]
    period = starts[-1] + pieces[-1][0]
    # Rates in bytes/µs, so that transfers are short.
    rates = [(at, down * SECOND, 1) for at, (_, down, _) in zip(starts, pieces, strict=True)]
    link = Link(rates=tuple(rates), period_us=period if repeats else 0)
    found = link.download_us(size, start)
    carried, time = 0, start
    while carried < size and time < start + 50 * period:
        offset = time % period if repeats else time
        carried += max((at, rate) for at, rate, _ in rates if at <= offset)[1] // SECOND
        time += 1
    assert found == (time - start if carried >= size else None)


@given(st.integers(0, 6 * SECOND))
def test_what_is_cut_off_is_no_more_than_the_whole(after: int) -> None:
    whole = table().trip(A)
    part = whole.cut(after, LossReason.LATE)
    assert part.duration_us == min(after, whole.duration_us)
    assert all(0 <= a <= b for p, w in zip(part.parts, whole.parts, strict=True) for a, b in zip(p, w, strict=True))


def test_a_table_comes_back_from_its_bytes() -> None:
    wrapping = device(online=((0, 10), (50, 100)), online_period_us=100, battery=Battery(capacity_uj=2, charge_uj=1))
    full = DeviceTable(bytes_down=1, bytes_up=2, devices={B: device(), A: wrapping})
    again = DeviceTable.decode(full.encode())
    assert again == full and again.addresses == [A, B]
    assert table().encode() != full.encode()


def _changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    document: Any = canonical.decode(table().encode())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


@pytest.mark.parametrize(
    "document",
    [
        [],
        _changed(("version",), 2),
        _changed(("bytes_up",), -1),
        _changed(("bytes_up",), "7"),
        _changed(("bytes_up",), 1.5),
        _changed(("bytes_up",), True),
        _changed(("devices",), {}),
        _changed(("devices", "0x12"), canonical.decode(table().encode())["devices"][A]),
        _changed(("devices", A.upper().replace("X", "x")), canonical.decode(table().encode())["devices"][A]),
        _changed(("devices", A, "cycles_per_second"), 0),
        _changed(("devices", A, "speed"), 1),
        _changed(("devices", A, "online"), [[5, 5]]),
        _changed(("devices", A, "online"), [[5, 9], [8, 12]]),
        _changed(("devices", A, "link", "rates"), []),
        _changed(("devices", A, "link", "rates"), [[1, 1, 1]]),
        _changed(("devices", A, "link", "rates"), [[0, 1, 1], [0, 2, 2]]),
        _changed(("devices", A, "link", "rates"), [[0, 1]]),
        _changed(("devices", A, "battery"), {"capacity_uj": 1, "charge_uj": 2, "harvest_uw": 0}),
    ],
)
def test_a_table_that_is_none_is_refused(document: Any) -> None:
    with pytest.raises(ConfigError):
        DeviceTable.decode(canonical.encode(document))


def test_bytes_that_are_no_document_are_refused() -> None:
    for data in (b"", b"\xff", table().encode() + b" "):
        with pytest.raises(ConfigError, match="device table"):
            DeviceTable.decode(data)
