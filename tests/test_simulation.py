"""Rounds without a ledger: the model of a run with one, to the bit, or a clear refusal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedledger.aggregator.round.measurement import LiveMeasurer
from fedledger.contracts.chain.chain import Chain
from fedledger.platform.engine import background, with_ledger
from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.engine.without_ledger import Simulation
from fedledger.platform.experiment.config import AttackerConfig, ExperimentConfig, LedgerConfig
from fedledger.platform.experiment.experiment import Experiment, make_experiment
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.storage.local import LocalStore


def setting(**training: Any) -> Experiment:
    document = {
        "name": "simulation",
        "participants": 5,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [8], "classes": 10}},
        "compare_with_mean": False,
        "training": {"rounds": 4, "selection": {"method": "uniform@1", "params": {"count": 3}}, **training},
        "attackers": [{"attack": {"method": "free_rider@1"}}],
    }
    return make_experiment(ExperimentConfig.model_validate(document), Path())


TRIMMED = {"method": "trimmed_mean@1", "params": {"f": 1}}
DETECTION = [{"method": "held_out@1"}, {"method": "near_duplicate@1"}, {"method": "norm@1"}]
SCAFFOLD = {"method": "scaffold@1", "params": {"learning_rate": 0.1, "local_steps": 2}}


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"optimiser": {"method": "fedadam@1"}},
        {
            "detection": DETECTION,
            "mixing": {"method": "nearest_neighbour_mixing@1", "params": {"f": 1}},
            "aggregation": TRIMMED,
        },
        {"solver": SCAFFOLD},
        {
            "normalisation": {"method": "fednova@1", "params": {"max_steps": 8}},
            "selection": {"method": "reputation@1", "params": {"count": 3}},
        },
        {"selection": {"method": "oort@1", "params": {"count": 3}}},
        {"stopping": {"target_correct": 30}, "rounds": 9},
    ],
    ids=["mean", "fedadam", "detection", "scaffold", "fednova", "oort", "stopping"],
)
def test_a_run_without_a_ledger_ends_with_the_model_of_one_with_it(tmp_path: Path, training: dict[str, Any]) -> None:
    given = setting(**training)
    with_ledger = run(given, Chain(), LocalStore(tmp_path / "store"), tmp_path)
    for backend in (Serial(given), Pool(given, 2)):
        with backend:
            simulation = Simulation(given, backend)
            verdicts = [sorted(done.verdicts.values()) for done in simulation.rounds()]
            assert np.array_equal(simulation.model.vector, with_ledger.final.vector)
            assert verdicts == [sorted(r.verdicts.values()) for r in with_ledger.task.settled]


def test_looking_at_updates_while_others_train_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = setting(detection=DETECTION, aggregation=TRIMMED)
    looked: list[str] = []
    real = LiveMeasurer.ahead
    models, reports = set(), set()

    def ahead(measurer: LiveMeasurer, what: str, vector: Any) -> None:
        looked.append(what)
        real(measurer, what, vector)

    monkeypatch.setattr(LiveMeasurer, "ahead", ahead)
    for long in (0.0, 1e9):
        monkeypatch.setattr(background, "LONG", long)
        looked.clear()
        folder = tmp_path / str(long)
        folder.mkdir()
        done = run(given, Chain(), LocalStore(folder / "store"), folder)
        models.add(done.final.vector.tobytes())
        reports.add(tuple(r.proposal.report.cid for r in done.task.settled if r.proposal))
        for backend in (Serial(given), Pool(given, 2)):
            with backend:
                simulation = Simulation(given, backend)
                list(simulation.rounds())
                models.add(simulation.model.vector.tobytes())
        # Three updates in each of four rounds, three times, but for those that are refused before they are measured.
        assert 30 < len(looked) <= 36 if not long else not looked
    assert len(models) == len(reports) == 1


def test_many_who_join_together_train_as_few_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = setting(rounds=2)
    models, people = set(), []
    for many in (2, 99):
        monkeypatch.setattr(with_ledger, "MANY", many)
        folder = tmp_path / str(many)
        folder.mkdir()
        done = run(given, Chain(), LocalStore(folder / "store"), folder)
        models.add(done.final.vector.tobytes())
        people.append({done.history.owners[participant] for participant in done.task.enrolled})
    assert len(models) == 1
    assert people[0] == people[1] == {given.address(number) for number in range(5)}


def test_a_task_that_stops_early_does(tmp_path: Path) -> None:
    given = setting(stopping={"target_correct": 30}, rounds=9)
    with Serial(given) as backend:
        played = len(list(Simulation(given, backend).rounds()))
    assert 1 < played < 9


def test_a_duplicate_needs_somebody_to_copy() -> None:
    config = setting().config
    alone = config.model_copy(
        update={
            "participants": 1,
            "attackers": [AttackerConfig(attack=Method(method="duplicate@1"))],
            "training": config.training.model_copy(update={"selection": Method(method="all@1")}),
        }
    )
    given = make_experiment(alone, Path())
    with Serial(given) as backend, pytest.raises(ConfigError, match="honest participant"):
        list(Simulation(given, backend).rounds())


def test_rounds_that_wait_for_their_finality_need_a_ledger() -> None:
    given = setting()
    config = given.config.model_copy(update={"ledger": LedgerConfig(max_unfinal=2)})
    given = make_experiment(config, Path())
    with Serial(given) as backend, pytest.raises(ConfigError, match="max_unfinal = 1"):
        Simulation(given, backend)


def test_a_beacon_needs_a_ledger() -> None:
    given = setting(randomness="beacon")
    with Serial(given) as backend, pytest.raises(ConfigError, match="beacon"):
        Simulation(given, backend)


def test_the_command_gives_the_same_model_as_the_one_with_a_ledger(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        'name = "both"\nparticipants = 3\ncompare_with_mean = false\n'
        'model = { method = "mlp@1", params = { inputs = 64, hidden = [8], classes = 10 } }\n'
        "[training]\nrounds = 2\n"
    )
    command = [sys.executable, "-m", "fedledger.platform.cli.app", "run", str(config), "--out", str(tmp_path / "runs")]
    documents = []
    for options in (["--chain", "embedded"], ["--no-ledger", "--backend", "serial"], ["--no-ledger", "--workers", "2"]):
        done = subprocess.run([*command, *options, "--format", "json"], capture_output=True, text=True, check=True)
        documents.append(json.loads(done.stdout))
    assert len({document["final_model"] for document in documents}) == 1
    assert len({document["accuracy"] for document in documents}) == 1
    for folder in (tmp_path / "runs").iterdir():
        has_ledger = (folder / "deployment.json").exists()
        wrong = [*command, "--resume", str(folder), *(["--no-ledger"] if has_ledger else [])]
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        refused = subprocess.run(wrong, capture_output=True, text=True, check=False)
        assert refused.returncode == 3
        assert ("began with a ledger" if has_ledger else "began without a ledger") in refused.stderr
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    refused = subprocess.run([*command, "--no-ledger", "--backend", "pol"], capture_output=True, text=True, check=False)
    assert refused.returncode == 3
    assert "pool@1" in refused.stderr
