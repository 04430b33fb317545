"""Schedules: two devices by hand, and what holds for any fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.schedules import event_simulator
from fedledger.protocol.schedules.base import Choose, everybody
from fedledger.protocol.schedules.costs import Cost, costs, total, total_by_participant
from fedledger.protocol.schedules.devices import Battery, Device, DeviceTable, Link, LossReason
from fedledger.protocol.schedules.events import Arrival, ServerStep
from fedledger.protocol.schedules.play import simulate

SECOND = 1_000_000
MINUTE = 60 * SECOND
DIGEST = bytes(32)


def address(number: int) -> str:
    return f"0x{number:040x}"


A, B, C = address(1), address(2), address(3)


def device(seconds: int, **changes: Any) -> Device:
    """A device that downloads in 1 s, computes for so long at 1 W, and uploads in 2 s at 3 W."""
    link = Link(rates=((0, 100, 50),), transmit_uw=3 * SECOND)
    fields = {"examples": seconds, "cycles_per_second": 1000, "cycles_per_example": 1000, "cycle_energy_fj": 10**12}
    return Device(**{**fields, "link": link, **changes})


def table(*devices: Device) -> DeviceTable:
    return DeviceTable(
        bytes_down=100, bytes_up=100, devices={address(i): device for i, device in enumerate(devices, start=1)}
    )


def play(
    fleet: DeviceTable,
    method: str,
    steps: int,
    digest: bytes = DIGEST,
    choose: Choose = everybody,
    **params: Any,
) -> list[ServerStep]:
    return list(islice(simulate(fleet, Method(method=method, params=params), digest, choose), steps))


def seen(server_steps: Sequence[ServerStep]) -> list[tuple[float, list[tuple[str, int]]]]:
    return [(f.time_us / SECOND, [(a.address, f.staleness(a)) for a in f.arrivals]) for f in server_steps]


# The fast one takes 4 s a round, the slow one 10 s.
PAIR = table(device(1), device(7))


def test_synchronous_waits_for_the_slowest() -> None:
    server_steps = play(PAIR, "synchronous@1", 2)
    assert seen(server_steps) == [(10, [(A, 0), (B, 0)]), (20, [(A, 0), (B, 0)])]
    assert server_steps[1].arrivals[0] == Arrival(
        A, 1, 10 * SECOND, SECOND, SECOND, 2 * SECOND, 14 * SECOND, (1 + 3 * 2) * SECOND
    )


def test_fedasync_takes_each_as_it_comes() -> None:
    server_steps = play(PAIR, "fedasync@1", 5, concurrency=2)
    # The slow one began at the start, and two steps were made meanwhile.
    assert seen(server_steps) == [(4, [(A, 0)]), (8, [(A, 0)]), (10, [(B, 2)]), (12, [(A, 1)]), (16, [(A, 0)])]


def test_what_is_too_stale_is_discarded() -> None:
    server_steps = play(PAIR, "fedasync@1", 4, concurrency=2, max_staleness=1)
    assert seen(server_steps) == [(4, [(A, 0)]), (8, [(A, 0)]), (12, [(A, 0)]), (16, [(A, 0)])]
    (lost,) = server_steps[2].losses
    assert (lost.address, lost.reason, lost.lost_us, lost.base_round) == (B, LossReason.STALE, 10 * SECOND, 0)
    assert lost.energy_uj == (7 + 6) * SECOND


def test_fedbuff_waits_for_two_of_three() -> None:
    server_steps = play(table(device(1), device(7), device(2)), "fedbuff@1", 3, buffer=2, concurrency=3)
    # A and C take 4 and 5 s. A's first update waits for C's, and A with it.
    assert seen(server_steps) == [(5, [(A, 0), (C, 0)]), (10, [(A, 0), (B, 1)]), (14, [(C, 1), (A, 0)])]


def test_ties_break_by_address() -> None:
    server_steps = play(table(device(1), device(1)), "fedasync@1", 4, concurrency=2)
    assert seen(server_steps) == [(4, [(A, 0)]), (4, [(B, 1)]), (8, [(A, 0)]), (8, [(B, 1)])]


def test_who_misses_a_deadline_is_dropped() -> None:
    server_steps = play(PAIR, "deadline@1", 2, quota=2, deadline_us=6 * SECOND)
    assert seen(server_steps) == [(6, [(A, 0)]), (12, [(A, 0)])]
    (lost,) = server_steps[0].losses
    # It had downloaded, and computed for 5 s of 7.
    assert (lost.address, lost.reason, lost.compute_us, lost.upload_us) == (B, LossReason.LATE, 5 * SECOND, 0)
    assert lost.energy_uj == 5 * SECOND


def test_who_misses_a_deadline_may_join_the_next_step() -> None:
    server_steps = play(PAIR, "deadline@1", 3, quota=2, deadline_us=6 * SECOND, late="join")
    # A's second update makes two of two at 10 s, with B's first.
    assert seen(server_steps) == [(6, [(A, 0)]), (10, [(A, 0), (B, 1)]), (16, [(A, 0)])]
    bounded = play(PAIR, "deadline@1", 2, quota=2, deadline_us=6 * SECOND, late="join", max_staleness=0)
    assert [loss.reason for loss in bounded[1].losses] == [LossReason.STALE]


def test_a_step_is_made_as_soon_as_enough_are_there() -> None:
    assert seen(play(PAIR, "deadline@1", 2, quota=1, deadline_us=6 * SECOND)) == [(4, [(A, 0)]), (8, [(A, 0)])]
    assert seen(play(PAIR, "deadline@1", 1, quota=5, deadline_us=60 * SECOND)) == [(10, [(A, 0), (B, 0)])]
    assert seen(play(PAIR, "deadline@1", 1, quota=1, deadline_us=SECOND)) == [(1, [])]


def test_who_arrives_at_the_very_instant_of_the_deadline_is_in_time() -> None:
    for late in ("drop", "join"):
        (step,) = play(PAIR, "deadline@1", 1, quota=2, deadline_us=10 * SECOND, late=late)
        assert seen([step]) == [(10, [(A, 0), (B, 0)])] and not step.losses
        (step,) = play(PAIR, "deadline@1", 1, quota=2, deadline_us=10 * SECOND - 1, late=late)
        assert [arrival.address for arrival in step.arrivals] == [A]


def test_a_step_asks_those_chosen() -> None:
    server_steps = play(PAIR, "synchronous@1", 3, choose=lambda index, known: [known[index % 2]])
    assert seen(server_steps) == [(10, [(B, 0)]), (14, [(A, 0)]), (24, [(B, 0)])]


def test_who_is_offline_does_not_arrive() -> None:
    fleet = table(device(1), device(7, online=((12 * SECOND, 40 * SECOND),)))
    server_steps = play(fleet, "synchronous@1", 5)
    assert seen(server_steps)[2:] == [(12, [(A, 0)]), (22, [(A, 0), (B, 0)]), (32, [(A, 0), (B, 0)])]
    assert [loss.reason for loss in server_steps[0].losses] == [LossReason.OFFLINE]
    gone = play(fleet, "synchronous@1", 6)[5]
    # It goes offline at 40 s, two seconds before it would be done, and everybody knows then.
    assert gone.time_us == 40 * SECOND and [(loss.reason, loss.upload_us) for loss in gone.losses] == [
        (LossReason.OFFLINE, 0)
    ]


def test_a_server_waits_until_somebody_is_there() -> None:
    late = table(device(1, online=((MINUTE, 2 * MINUTE),)))
    assert seen(play(late, "synchronous@1", 1)) == [(64, [(A, 0)])]
    assert seen(play(late, "fedasync@1", 1, concurrency=1)) == [(64, [(A, 0)])]


def test_a_battery_lasts_for_so_many_rounds() -> None:
    # A round costs 7 J.
    full = Battery(capacity_uj=20 * SECOND, charge_uj=20 * SECOND)
    server_steps = play(table(device(1, battery=full), device(7)), "synchronous@1", 4)
    assert [len(server_step.arrivals) for server_step in server_steps] == [2, 2, 1, 1]
    (lost,) = server_steps[2].losses
    # 6 J are left, 5 of them for an upload that takes 6.
    assert (lost.upload_us, lost.reason) == (1_666_666, LossReason.BATTERY)
    assert lost.energy_uj == pytest.approx(6 * SECOND, abs=3)
    assert [(loss.energy_uj, loss.reason) for loss in server_steps[3].losses] == [(0, LossReason.BATTERY)]


def test_who_harvests_begins_when_it_has_enough() -> None:
    harvesting = Battery(capacity_uj=70 * SECOND, charge_uj=0, harvest_uw=SECOND // 10)
    server_steps = play(table(device(1, battery=harvesting)), "fedasync@1", 2, concurrency=1)
    # It needs 7 J a round, so 70 s, of which it has 4 s when it is done.
    assert seen(server_steps) == [(74, [(A, 0)]), (144, [(A, 0)])]
    small = harvesting.model_copy(update={"capacity_uj": 5 * SECOND})
    with_small = play(table(device(1, battery=small), device(1)), "synchronous@1", 20)
    assert with_small[0].losses[0].reason is LossReason.BATTERY
    # Full after 50 s, it tries, and fails.
    tried = [loss for server_step in with_small for loss in server_step.losses if loss.energy_uj]
    assert [loss.dispatched_us for loss in tried] == [52 * SECOND]


@pytest.mark.parametrize("method", ["synchronous@1", "fedasync@1"])
def test_a_schedule_in_which_nothing_can_arrive_ends(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_simulator, "MAX_FAILURES", 100)
    params = {"concurrency": 1} if method == "fedasync@1" else {}
    empty = table(device(1, battery=Battery(capacity_uj=1, charge_uj=0)))
    with pytest.raises(ConfigError, match="No update can arrive"):
        play(empty, method, 1, **params)
    gone = table(device(1, online=((0, SECOND),)))
    with pytest.raises(ConfigError, match="No update can arrive"):
        play(gone, method, 3, **params)


def test_a_link_that_is_dead_ends_an_asynchronous_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_simulator, "MAX_FAILURES", 100)
    with pytest.raises(ConfigError, match="No update can arrive"):
        play(table(device(1, link=Link(rates=((0, 0, 0),)))), "fedbuff@1", 1, buffer=1, concurrency=1)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("synchronous@1", {"quota": 1}),
        ("deadline@1", {"quota": 0, "deadline_us": 1}),
        ("deadline@1", {"quota": 1, "deadline_us": 0}),
        ("deadline@1", {"quota": 1, "deadline_us": 1, "late": "never"}),
        ("fedbuff@1", {"buffer": 3, "concurrency": 1}),
        ("fedbuff@1", {"buffer": 0, "concurrency": 1}),
        ("fedasync@1", {"concurrency": 0}),
        ("fedasync@1", {"concurrency": 1, "max_staleness": -1}),
        ("fedsync@1", {}),
    ],
)
def test_parameters_that_make_no_sense_are_refused(method: str, params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        play(PAIR, method, 1, **params)


links = st.builds(
    lambda down, up, latency: Link(
        rates=((0, down, up),), latency_us=latency, receive_uw=SECOND, transmit_uw=2 * SECOND
    ),
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(0, SECOND),
)
batteries = st.none() | st.builds(
    lambda capacity, harvest: Battery(capacity_uj=capacity, charge_uj=capacity, harvest_uw=harvest),
    st.integers(SECOND, 100 * SECOND),
    st.integers(1, SECOND),
)
windows = st.sampled_from([(), ((0, 100 * SECOND), (110 * SECOND, 300 * SECOND)), ((50 * SECOND, 200 * SECOND),)])
hardy = st.builds(device, st.integers(1, 9), link=links)
frail = st.builds(
    device, st.integers(1, 9), link=links, battery=batteries, online=windows, online_period_us=st.just(300 * SECOND)
)
fleets = st.lists(hardy, min_size=2, max_size=6).map(lambda devices: table(*devices))
frail_fleets = st.lists(frail, min_size=1, max_size=5).map(lambda devices: table(device(2), device(3), *devices))
plans = st.one_of(
    st.just(("synchronous@1", {})),
    st.builds(
        lambda quota, seconds, late, bound: (
            "deadline@1",
            {"quota": quota, "deadline_us": seconds * SECOND, "late": late, "max_staleness": bound},
        ),
        st.integers(1, 4),
        st.integers(1, 20),
        st.sampled_from(["drop", "join"]),
        st.none() | st.integers(0, 2),
    ),
    st.builds(
        lambda buffer, concurrency, bound: (
            "fedbuff@1",
            {"buffer": buffer, "concurrency": concurrency, "max_staleness": bound},
        ),
        st.integers(1, 2),
        st.integers(1, 7),
        st.none() | st.integers(0, 3),
    ),
)


@given(fleets | frail_fleets, plans, st.binary(min_size=32, max_size=32))
def test_what_holds_for_every_schedule(fleet: DeviceTable, plan: tuple[str, dict[str, Any]], digest: bytes) -> None:
    method, params = plan
    server_steps = play(fleet, method, 12, digest, **params)
    assert server_steps == play(fleet, method, 12, digest, **params)
    assert [server_step.index for server_step in server_steps] == list(range(1, 13))
    assert all(a.time_us <= b.time_us for a, b in pairwise(server_steps))
    times = [0, *(server_step.time_us for server_step in server_steps)]
    bound = params.get("max_staleness")
    for server_step in server_steps:
        assert [(a.arrived_us, a.address) for a in server_step.arrivals] == sorted(
            (a.arrived_us, a.address) for a in server_step.arrivals
        )
        assert len({a.address for a in server_step.arrivals}) == len(server_step.arrivals)
        for arrival in server_step.arrivals:
            assert arrival.dispatched_us < arrival.arrived_us <= server_step.time_us
            assert times[arrival.base_round] <= arrival.dispatched_us
            # The model was the newest when it was sent off.
            assert arrival.base_round + 1 >= len(times) or arrival.dispatched_us <= times[arrival.base_round + 1]
            parts = arrival.download_us + arrival.compute_us + arrival.upload_us
            assert arrival.dispatched_us + parts == arrival.arrived_us
            assert server_step.staleness(arrival) >= 0 and (bound is None or server_step.staleness(arrival) <= bound)
            if method == "synchronous@1":
                assert server_step.staleness(arrival) == 0
        for loss in server_step.losses:
            assert loss.dispatched_us + loss.download_us + loss.compute_us + loss.upload_us == loss.lost_us
            assert times[server_step.index - 1] <= loss.lost_us <= server_step.time_us
        if method == "fedbuff@1":
            assert len(server_step.arrivals) == params["buffer"]
        if method == "deadline@1":
            assert len(server_step.arrivals) <= params["quota"]


@given(fleets, plans)
def test_nobody_does_two_things_at_a_time(fleet: DeviceTable, plan: tuple[str, dict[str, Any]]) -> None:
    method, params = plan
    server_steps = play(fleet, method, 12, **params)
    spans: dict[str, list[tuple[int, int]]] = {}
    for server_step in server_steps:
        for arrival in server_step.arrivals:
            spans.setdefault(arrival.address, []).append((arrival.dispatched_us, arrival.arrived_us))
        for loss in server_step.losses:
            spans.setdefault(loss.address, []).append((loss.dispatched_us, loss.lost_us))
    for mine in spans.values():
        assert all(end <= begin for (_, end), (begin, _) in pairwise(sorted(mine)))
    if "concurrency" in params:
        edges = Counter[tuple[int, int]]()
        for begin, end in (span for mine in spans.values() for span in mine):
            edges[(begin, 1)] += 1
            edges[(end, 0)] -= 1
        flying = 0
        for _, change in sorted(edges.items()):
            flying += change
            assert flying <= params["concurrency"]


@given(st.integers(1, 6), st.integers(1, 9), st.binary(min_size=32, max_size=32))
def test_fedbuff_of_all_at_equal_speed_is_synchronous(count: int, seconds: int, digest: bytes) -> None:
    fleet = table(*[device(seconds)] * count)
    asynchronous = play(fleet, "fedbuff@1", 6, digest, buffer=count, concurrency=count)
    assert asynchronous == play(fleet, "synchronous@1", 6, digest)


@given(fleets, st.binary(min_size=32, max_size=32))
def test_fedbuff_of_all_is_synchronous_at_any_speed(fleet: DeviceTable, digest: bytes) -> None:
    """As nobody is asked again before its update has made a step."""
    everyone = len(fleet.devices)
    asynchronous = play(fleet, "fedbuff@1", 6, digest, buffer=everyone, concurrency=everyone)
    assert asynchronous == play(fleet, "synchronous@1", 6, digest)
    assert asynchronous == play(fleet, "deadline@1", 6, digest, quota=everyone, deadline_us=10**12)


def test_costs_by_hand() -> None:
    (server_step,) = play(PAIR, "synchronous@1", 1)
    fast, slow = costs(server_step)
    assert fast.cost == Cost(SECOND, SECOND, 2 * SECOND, idle_us=6 * SECOND, energy_uj=7 * SECOND)
    assert fast.cost.communication_ppm == 750_000 and slow.cost.communication_ppm == 300_000
    assert slow.cost.idle_us == 0 and fast.counted and fast.staleness == 0
    assert Cost().communication_ppm == 0


@given(fleets | frail_fleets, plans)
def test_totals_are_the_sums_of_their_parts(fleet: DeviceTable, plan: tuple[str, dict[str, Any]]) -> None:
    method, params = plan
    server_steps = play(fleet, method, 12, **params)
    rows = [row for server_step in server_steps for row in costs(server_step)]
    work = [w for server_step in server_steps for w in (*server_step.arrivals, *server_step.losses)]
    everything = total(rows)
    assert everything.energy_uj == sum(w.energy_uj for w in work)
    assert everything.communication_us == sum(w.download_us + w.upload_us for w in work)
    by_participant = total_by_participant(rows)
    assert sum(by_participant.values(), Cost()) == everything
    horizon = server_steps[-1].time_us
    for cost in by_participant.values():
        # Whoever is not busy and does not wait for a step was not asked.
        assert cost.communication_us + cost.compute_us + cost.idle_us <= horizon
