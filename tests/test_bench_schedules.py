"""The comparison of schedules: that asynchronous ones are as much faster as is said, and what the figures are."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedledger.platform.bench import schedules
from fedledger.platform.bench.schedules import BASELINE, CONTENDERS, CYCLES, compare, configuration, play
from fedledger.platform.cli.app import app
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.protocol.schedules.base import build_schedule

BY_NAME = {contender.name: contender for contender in CONTENDERS}
ASYNCHRONOUS = "fedbuff, K 10, all 100"


def test_asynchronous_is_three_times_as_fast_as_synchronous() -> None:
    """On a seed that nothing was chosen by; the benchmark takes more of them, and both workloads."""
    slow, fast = (play(configuration(BY_NAME[name], "digits", 5)) for name in (BASELINE, ASYNCHRONOUS))
    assert slow.reached and fast.reached
    assert slow.seconds >= 3 * fast.seconds
    assert slow.mean_staleness == 0 < fast.mean_staleness
    # Every server step has ten updates.
    assert slow.updates == 10 * slow.rounds and fast.updates == 10 * fast.rounds
    assert play(configuration(BY_NAME[ASYNCHRONOUS], "digits", 5)) == fast


def test_the_mix_is_the_one_that_is_said() -> None:
    table = make_experiment(configuration(BY_NAME[BASELINE], "heavy", 0), Path()).device_table
    assert table is not None
    devices = list(table.devices.values())
    by_latency = sorted(device.link.latency_us for device in devices)
    assert [by_latency.count(latency) for latency in sorted(set(by_latency))] == [20, 40, 40]
    speeds = sorted(device.cycles_per_second for device in devices)
    assert 10**8 <= speeds[0] < 2 * 10**8 and 8 * 10**8 < speeds[-1] <= 10**9
    assert {device.cycles_per_example for device in devices} == {6_000 * 2_410}


def test_every_contender_is_a_schedule_on_every_workload() -> None:
    for contender in CONTENDERS:
        for workload in CYCLES:
            schedule = configuration(contender, workload, 0).training.schedule
            assert schedule is not None and build_schedule(schedule).most_stale in (0, schedules.MOST_STALE)


def test_who_does_not_get_there_has_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "CONTENDERS", (BY_NAME[BASELINE], BY_NAME[ASYNCHRONOUS]))
    monkeypatch.setattr(schedules, "MOST_ROUNDS", 1)
    rows = compare(["digits"], [0])
    assert [(row.speedup, row.energy, row.reached, row.rounds) for row in rows] == [(None, None, 0, 1)] * 2
    told = CliRunner().invoke(app, ["bench", "schedules", "--workloads", "digits", "--seeds", "1", "--format", "json"])
    assert json.loads(told.stdout)["rows"] == [json.loads(json.dumps(asdict(row))) for row in rows]


def test_unknown_workloads_are_named() -> None:
    told = CliRunner().invoke(app, ["bench", "schedules", "--workloads", "cifar"])
    assert told.exit_code != 0 and "There is no workload cifar" in str(told.exception)
