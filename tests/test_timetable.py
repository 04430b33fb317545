"""Schedules on the ledger: rounds follow the timetable, everybody finds the same one, and a lie about it is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_schedules import SECOND, address, device, fleets, plans, table
from typer.testing import CliRunner

from fedledger.aggregator.duties.opening import Opening
from fedledger.aggregator.selection.planner import RoundPlanner
from fedledger.contracts.chain.chain import Chain
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.report.device_tables import by_participant, read_devices, server_step_rows, totals
from fedledger.platform.cli.app import app
from fedledger.platform.engine import with_ledger
from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.checkpoint import Checkpoint, CheckpointFile
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.ledger_agents import AgentParticipant
from fedledger.platform.engine.participant_states import ParticipantStates
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig, load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.schedules.base import everybody
from fedledger.protocol.schedules.devices import DeviceTable, LossReason
from fedledger.protocol.schedules.play import simulate
from fedledger.protocol.schedules.timetable import Timetable, require_schedule
from fedledger.storage.local import LocalStore
from support.small import CONFIG, Small, run_small

DIGEST = bytes(32)
FLEET = """
[devices]
spread = 8
cycles_per_example = 10000000
[[devices.kinds]]
link = "4g"
[[devices.kinds]]
link = "6g"
"""
FEDASYNC = """
schedule = { method = "fedasync@1", params = { concurrency = 4, max_staleness = 8 } }
staleness = { method = "polynomial@1", params = { exponent = 0.5, mix_models = true } }
[ledger]
max_staleness = 8
"""
FEDBUFF = """
schedule = { method = "fedbuff@1", params = { buffer = 2, concurrency = 4, max_staleness = 8 } }
staleness = { method = "fedbuff@1" }
[ledger]
max_staleness = 8
batched = true
challenge_window = 60
"""
JOINING = {"quota": 3, "deadline_us": 400000, "late": "join", "max_staleness": 1}
JOIN = """
selection = { method = "uniform@1", params = { count = 3 } }
schedule = { method = "deadline@1", params = { quota = 3, deadline_us = 400000, late = "join", max_staleness = 1 } }
staleness = { method = "hinge@1", params = { a = 1.0, b = 1 } }
[ledger]
max_staleness = 3
quorum = 1
"""
CHOOSY = """
selection = { method = "oort@1", params = { count = 2 } }
schedule = { method = "synchronous@1" }
"""

MODELLED = """
selection = { method = "reputation@1", params = { count = 2 } }
schedule = { method = "synchronous@1" }
reputation_model = { method = "eigentrust@1" }
[ledger]
batched = true
challenge_window = 60
"""


def run_with(folder: Path, extra: str, rounds: int = 6) -> Small:
    return run_small(folder, Chain(), rounds=rounds, extra=extra + FLEET)


@pytest.fixture(
    scope="module",
    params=[FEDASYNC, FEDBUFF, JOIN, CHOOSY, MODELLED],
    ids=["fedasync", "fedbuff", "join", "oort", "eigentrust"],
)
def scheduled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Small:
    return run_with(tmp_path_factory.mktemp("scheduled"), request.param)


def test_rounds_are_the_steps_of_the_schedule(scheduled: Small) -> None:
    """Played here from the table alone, or with what the run's record says of whom the selection chose."""
    spec, devices = scheduled.experiment.spec, scheduled.experiment.device_table
    assert spec.schedule is not None and devices is not None
    plans, history, task = (
        RoundPlanner(LocalStore(scheduled.folder / "store")),
        scheduled.run.history,
        scheduled.run.task,
    )
    rounds = [plans.round(history, task, spec, index, r.beacon) for index, r in sorted(task.rounds.items())]
    for server_step, current in zip(rounds, task.rounds.values(), strict=True):
        assert {a.address for a in server_step.arrivals} == set(current.owners.values())
        assert server_step.index == current.index and {*current.verdicts.values()} == {Verdict.ACCEPTED}
    if spec.schedule.method in ("fedasync@1", "fedbuff@1"):
        assert rounds == list(islice(simulate(devices, spec.schedule, spec.digest), len(rounds)))
        assert any(server_step.staleness(a) for server_step in rounds for a in server_step.arrivals)


def test_a_scheduled_history_is_reproduced(scheduled: Small) -> None:
    result = audit_run(scheduled.folder)
    assert result.reproduced and result.measured and result.rounds == 6, result.first_divergence


def test_without_a_ledger_the_model_is_the_same(scheduled: Small) -> None:
    for backend in (Serial(scheduled.experiment), Pool(scheduled.experiment, 2)):
        with backend:
            record = MemoryRecord(scheduled.experiment)
            done = list(play(record, backend))
        assert np.array_equal(record.model.vector, scheduled.run.final.vector)
        found = [{a.address for a in r.step.arrivals} for r in done if r.step is not None]
        assert found == [set(r.owners.values()) for r in scheduled.run.task.settled]


def test_a_simulation_that_goes_on_plays_the_same_timetable(scheduled: Small, tmp_path: Path) -> None:
    file, states = CheckpointFile(tmp_path, scheduled.experiment.config), ParticipantStates(tmp_path / "states")
    with Serial(scheduled.experiment) as backend:
        begun = MemoryRecord(scheduled.experiment, participant_states=states)
        for _ in islice(play(begun, backend), 3):
            pass
        file.save(Checkpoint(begun.progress, [], 0.0), states)
        found = file.load(states)
        assert found is not None
        resumed = MemoryRecord(scheduled.experiment, found.progress, states)
        assert [done.index for done in play(resumed, backend)] == [4, 5, 6]
        assert np.array_equal(resumed.model.vector, scheduled.run.final.vector)


# -- asynchronous and synchronous ------------------------------------------------------------------------------

ONE_EACH = """
import numpy as np
import torch

def model():
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

def data():
    rng = np.random.Generator(np.random.PCG64(1))
    labels = np.arange(12) % 2
    return rng.normal(size=(12, 6)).astype(np.float32) + labels[:, None], labels.astype(np.int64)
"""


@pytest.mark.long
def test_fedbuff_of_all_with_equal_weights_is_fedavg_bit_for_bit(tmp_path: Path) -> None:
    """Two ledgers, that differ in the schedule alone, and no schedule.

    The spec's digest enters the streams that training draws from, so each participant has one example: there is
    nothing to draw.
    """
    (tmp_path / "task.py").write_text(ONE_EACH)
    found = set()
    schedules = {
        "fedavg": {"method": "synchronous@1"},
        "fedbuff": {"method": "fedbuff@1", "params": {"buffer": 4, "concurrency": 4, "max_staleness": 0}},
        "fedbuff, 9 at a time": {"method": "fedbuff@1", "params": {"buffer": 4, "concurrency": 9, "max_staleness": 8}},
        "deadline": {"method": "deadline@1", "params": {"quota": 4, "deadline_us": 10**9}},
        "none": None,
    }
    for name, schedule in schedules.items():
        document = {
            "name": "equal",
            "participants": 4,
            "code": "task.py",
            "data": {"partition": {"method": "iid@1"}, "test_fraction": 0.25, "validation_fraction": 0.4},
            "training": {"pipeline": "plain", "rounds": 5, "schedule": schedule, "staleness": {"method": "fedbuff@1"}},
            "devices": {"kinds": [{"link": "wifi"}]},
            "ledger": {"max_staleness": 8},
        }
        given_ = make_experiment(ExperimentConfig.model_validate(document), tmp_path)
        assert [given_.examples(number) for number in range(4)] == [1] * 4
        (folder := tmp_path / name).mkdir()
        finished = run(given_, Chain(), LocalStore(folder / "store"), folder)
        assert finished.task.model != given_.spec.initial_model.ref
        found.add((finished.task.model.cid, tuple(r.proposal.model.cid for r in finished.task.settled if r.proposal)))
    assert len(found) == 1


# -- lies ------------------------------------------------------------------------------------------------------


def test_an_aggregator_that_asks_somebody_else_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Opening.selection

    def partial(self: Opening, task: Any, index: int) -> list[int] | None:
        chosen = honest(self, task, index)
        return chosen if index != 3 or chosen is None else [(chosen[0] + 1) % 4]

    monkeypatch.setattr(Opening, "selection", partial)
    small = run_with(tmp_path, FEDASYNC)
    divergence = audit_run(small.folder).first_divergence
    assert divergence is not None and (divergence.round, divergence.field) == (3, "selection")
    assert divergence.found == list(small.run.task.rounds[3].selected) != divergence.expected


def stubborn(folder: Path, patch: pytest.MonkeyPatch, extra: str) -> Small:
    """Run with a participant that always trains on the newest model, whatever its schedule says."""

    class Newest(AgentParticipant):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            told = self.updates.base_of
            self.updates.base_of = lambda index: 0 if index == 4 else told(index)

    patch.setattr(with_ledger, "AgentParticipant", Newest)
    return run_with(folder, extra)


def test_an_update_to_another_model_than_the_schedule_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = stubborn(tmp_path, monkeypatch, FEDASYNC)
    fourth = small.run.task.rounds[4]
    assert set(fourth.verdicts.values()) == {Verdict.WRONG_BASE}
    assert fourth.proposal is not None and fourth.proposal.model == fourth.base
    assert audit_run(small.folder).reproduced


def test_an_aggregator_that_takes_such_an_update_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RoundPlanner, "bases", lambda *given: {})
        small = stubborn(tmp_path, patch, FEDASYNC)
    divergence = audit_run(small.folder).first_divergence
    assert divergence is not None and divergence.round == 4 and divergence.field.startswith("staleness of 0x")
    assert divergence.found == 0 < divergence.expected


# -- terms -----------------------------------------------------------------------------------------------------


def experiment_with(schedule: dict[str, Any] | None, devices: bool = True, **ledger: Any) -> Experiment:
    document: dict[str, Any] = {
        "name": "terms",
        "participants": 4,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [4], "classes": 10}},
        "training": {"pipeline": "plain", "rounds": 2, "schedule": schedule},
        "ledger": ledger,
    }
    if devices:
        document["devices"] = {"kinds": [{"link": "wifi"}]}
    return make_experiment(ExperimentConfig.model_validate(document), Path())


def asynchronous(**params: Any) -> dict[str, Any]:
    return {"method": "fedbuff@1", "params": {"buffer": 2, "concurrency": 3, **params}}


@pytest.mark.parametrize(
    ("schedule", "ledger", "told"),
    [
        (asynchronous(), {"max_staleness": 64}, "no bound on staleness"),
        (asynchronous(max_staleness=3), {"max_staleness": 2}, "a staleness up to 3"),
        (asynchronous(max_staleness=2), {"max_staleness": 2, "quorum": 3}, "below the quorum of 3"),
        ({"method": "fedasync@2", "params": {}}, {}, "fedasync"),
    ],
)
def test_terms_that_do_not_suit_a_schedule_are_refused(
    schedule: dict[str, Any], ledger: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        experiment_with(schedule, **ledger)


def test_a_schedule_needs_devices() -> None:
    with pytest.raises(ConfigError, match="needs to know the participants' devices"):
        experiment_with({"method": "synchronous@1"}, devices=False)


def test_the_spec_names_the_devices() -> None:
    plain, with_devices = experiment_with(None, devices=False), experiment_with(None)
    assert plain.device_table is None and b"schedule" not in plain.spec.encode()
    devices = with_devices.device_table
    assert devices is not None and sorted(devices.devices) == sorted(with_devices.address(n) for n in range(4))
    assert {a: d.examples for a, d in devices.devices.items()} == {
        with_devices.address(n): with_devices.examples(n) for n in range(4)
    }
    assert experiment_with(asynchronous(max_staleness=0)).config.quorum == 1


def test_the_bytes_are_those_that_travel(tmp_path: Path) -> None:
    small = run_with(tmp_path, FEDASYNC, rounds=2)
    devices = small.experiment.device_table
    assert devices is not None
    for current in small.run.task.rounds.values():
        assert current.base.length == devices.bytes_down
        for reveal in current.reveals.values():
            assert 0 <= devices.bytes_up - reveal.update.length < 24


def test_what_scaffold_downloads_besides_the_model_counts(tmp_path: Path) -> None:
    extra = """
solver = { method = "scaffold@1", params = { learning_rate = 0.1, local_steps = 5 } }
optimiser = { method = "fedadam@1" }
schedule = { method = "synchronous@1" }
"""
    path = tmp_path / "config.toml"
    text = CONFIG.format(participants=4, rounds=2, extra=extra + FLEET, data="")
    lines = [line for line in text.splitlines() if 'sgd@1"' not in line]
    path.write_text("\n".join(lines))
    given_ = make_experiment(load_config(path), tmp_path)
    finished = run(given_, Chain(), LocalStore(tmp_path / "store"), tmp_path)
    devices, last = given_.device_table, finished.task.rounds[2]
    state = finished.task.state_before(2)
    assert devices is not None and state is not None
    assert devices.bytes_down == last.base.length + state.length
    assert all(0 <= devices.bytes_up - r.update.length < 24 for r in last.reveals.values())
    assert {d.examples for d in devices.devices.values()} != {given_.examples(n) for n in range(4)}


# -- timetables ------------------------------------------------------------------------------------------------


@given(fleets, plans, st.binary(min_size=32, max_size=32), st.integers(0, 2))
def test_a_timetable_has_the_steps_of_its_schedule(
    fleet: DeviceTable, plan: tuple[str, dict[str, Any]], digest: bytes, quorum: int
) -> None:
    method, params = plan
    schedule = Method(method=method, params=params)
    if quorum > min(params.get("quota", 2), params.get("buffer", 2)):
        quorum = 1
    timetable = Timetable(fleet, schedule, digest, quorum=quorum)
    try:
        again = [timetable.round(index) for index in (4, 2, 1, 3)]
    except ConfigError:
        # A deadline that nobody can keep.
        assert method == "deadline@1"
        return
    steps = list(islice(simulate(fleet, schedule, digest, everybody, quorum), 4))
    assert again == [steps[index - 1] for index in (4, 2, 1, 3)] and timetable.played == 4
    assert all(len(server_step.arrivals) >= quorum for server_step in steps)
    if not quorum:
        return
    # What is abandoned was worked for all the same.
    free = list(islice(simulate(fleet, schedule, digest, everybody), 4))
    assert [server_step.time_us for server_step in free] <= [server_step.time_us for server_step in steps]


def test_a_step_below_quorum_is_abandoned() -> None:
    """The fast one takes 4 s, the slow one 10 s, and at 6 s there is one of two."""
    asked: list[int] = []

    def note(time: int, addresses: Sequence[str]) -> Sequence[str]:
        asked.append(time)
        return addresses

    pair = table(device(1), device(7))
    schedule = Method(method="deadline@1", params={"quota": 2, "deadline_us": 6 * SECOND, "late": "join"})
    timetable = Timetable(pair, schedule, DIGEST, note, quorum=2)
    first = timetable.round(1)
    # It is asked again at 6 s, and its second update comes with the first one of the other.
    assert [(a.address, a.base_round) for a in first.arrivals] == [(address(1), 0), (address(2), 0)]
    assert (first.time_us, [loss.reason for loss in first.losses]) == (10 * SECOND, [LossReason.ABANDONED])
    assert asked == [1, 2] and [first.staleness(a) for a in first.arrivals] == [0, 0]


def test_a_quorum_that_never_comes_together_ends_the_schedule() -> None:
    schedule = Method(method="deadline@1", params={"quota": 2, "deadline_us": 6 * SECOND})
    with pytest.raises(ConfigError, match="the quorum of 2"):
        Timetable(table(device(1), device(7)), schedule, DIGEST, quorum=2).round(1)


def test_terms_of_every_schedule() -> None:
    for method, params, most in (
        ("synchronous@1", {}, None),
        ("deadline@1", {"quota": 3, "deadline_us": 1}, 3),
        ("fedbuff@1", {"buffer": 2, "concurrency": 1, "max_staleness": 0}, 2),
        ("fedasync@1", {"concurrency": 1, "max_staleness": 0}, 1),
    ):
        schedule = Method(method=method, params=params)
        require_schedule(schedule, most or 100, 0)
        if most is not None:
            with pytest.raises(ConfigError, match="below the quorum"):
                require_schedule(schedule, most + 1, 0)


# -- records that change ---------------------------------------------------------------------------------------


def test_a_voided_round_leaves_its_place_to_the_next(scheduled: Small) -> None:
    """As after a challenge: rounds 3 and 4 fell, and the fifth is made of what was the third's."""
    spec, history, task = scheduled.experiment.spec, scheduled.run.history, scheduled.run.task
    plans = RoundPlanner(LocalStore(scheduled.folder / "store"))
    rounds = {i: replace(r, voided=i in (3, 4)) for i, r in task.rounds.items()}
    fallen = replace(task, rounds=rounds)
    expected = [plans.round(history, task, spec, index, bytes(32)) for index in (1, 2, 3)]
    assert plans.round(history, fallen, spec, 5, bytes(32)) == expected[2]
    assert plans.round(history, task, spec, 6, bytes(32)) == RoundPlanner(plans._store).round(
        history, task, spec, 6, bytes(32)
    )
    assert [plans.round(history, fallen, spec, index, bytes(32)) for index in (1, 2)] == expected[:2]


# -- what a run leaves behind ----------------------------------------------------------------------------------


def test_a_run_tells_what_its_devices_did(scheduled: Small) -> None:
    rows = read_devices(scheduled.folder)
    with (scheduled.folder / "devices.csv").open(encoding="utf-8") as file:
        assert [row["address"] for row in csv.DictReader(file)] == [row["address"] for row in rows]
    task, devices = scheduled.run.task, scheduled.experiment.device_table
    assert devices is not None
    counted = [(row["round"], row["address"]) for row in rows if row["counted"]]
    assert sorted(counted) == sorted((i, owner) for i, r in task.rounds.items() for owner in r.owners.values())
    sent = {(i, r.owners[p]): ref.length for i, r in task.rounds.items() for p, ref in _delivered(scheduled, i).items()}
    for row in rows:
        if row["counted"]:
            assert row["bytes_up"] == sent[row["round"], row["address"]] and row["bytes_down"] == devices.bytes_down
            busy = row["download_us"] + row["compute_us"] + row["upload_us"]
            assert row["communication_ppm"] == (busy - row["compute_us"]) * 1_000_000 // busy
    told = scheduled.summary["devices"]
    if scheduled.experiment.spec.schedule == Method(method="deadline@1", params=JOINING):
        assert told["lost"].keys() == {"stale"} and told["joules_lost"] > 0
    assert told["updates"] == len(counted) and told["joules"] == sum(row["energy_uj"] for row in rows) / 1e6
    assert told["bytes_up"] == sum(sent.values())
    times = pd.read_csv(scheduled.folder / "metrics.csv")["time_us"].tolist()
    assert times == sorted(times) and told["simulated_seconds"] == times[-1] / 1e6
    page = (scheduled.folder / "report.html").read_text(encoding="utf-8")
    assert "Test accuracy over simulated time" in page and "Energy of each participant" in page


def _delivered(scheduled: Small, index: int) -> dict[int, ContentRef]:
    current = scheduled.run.task.rounds[index]
    if scheduled.run.task.batched:
        return current.delivered
    return {i: reveal.update for i, reveal in current.reveals.items()}


def test_without_a_ledger_the_devices_did_the_same(scheduled: Small, tmp_path: Path) -> None:
    told = run_without_ledger(scheduled.experiment, tmp_path, "serial")
    assert told["final_model"] == scheduled.summary["final_model"]
    on_ledger, free = read_devices(scheduled.folder), read_devices(tmp_path)
    # What a header's numbers take is only known once there is one.
    for row in (*on_ledger, *free):
        del row["bytes_up"]
    assert free == on_ledger
    assert told["devices"]["simulated_seconds"] == scheduled.summary["devices"]["simulated_seconds"]


def test_totals_by_participant_are_those_of_all() -> None:
    server_step = next(iter(simulate(table(device(1), device(7)), Method(method="synchronous@1"), DIGEST)))
    lost = replace(server_step, losses=tuple(a.lost(LossReason.STALE) for a in server_step.arrivals[:1]))
    rows = server_step_rows(lost, 3, lambda owner, staleness: (100, 50))
    assert [(row["round"], row["counted"], row["reason"]) for row in rows] == [
        (3, True, ""),
        (3, True, ""),
        (3, False, "stale"),
    ]
    everybody_, people = totals(rows), by_participant(rows)
    assert everybody_["lost"] == {"stale": 1} and people[0]["lost"] == "1 stale" and people[1]["lost"] == ""
    for name in ("updates", "joules", "joules_lost", "bytes_down", "bytes_up"):
        assert everybody_[name] == sum(person[name] for person in people)
    assert (everybody_["bytes_down"], everybody_["bytes_up"]) == (200, 100)


def test_a_run_without_a_schedule_has_no_devices(tmp_path: Path) -> None:
    small = run_small(tmp_path, Chain(), rounds=1)
    assert "devices" not in small.summary and not (tmp_path / "devices.csv").exists()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_devices(tmp_path)


def test_the_command_shows_them(scheduled: Small) -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["devices", str(scheduled.folder), "--format", "json"])
    people = json.loads(shown.stdout)
    assert {row["address"] for row in people} <= {scheduled.experiment.address(n) for n in range(4)}
    rows = runner.invoke(app, ["devices", str(scheduled.folder), "--rounds", "--format", "csv"]).stdout
    assert len(list(csv.DictReader(rows.splitlines()))) == len(read_devices(scheduled.folder))
