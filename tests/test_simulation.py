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
from fedledger.platform.engine import background, enrolment
from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import AttackerConfig, ExperimentConfig, LedgerConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore


def experiment_with(**training: Any) -> Experiment:
    document = {
        "name": "simulation",
        "participants": 5,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [8], "classes": 10}},
        "compare_with_mean": False,
        "training": {
            "pipeline": "plain",
            "rounds": 4,
            "selection": {"method": "uniform@1", "params": {"count": 3}},
            **training,
        },
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
    given = experiment_with(**training)
    with_ledger = run(given, Chain(), LocalStore(tmp_path / "store"), tmp_path)
    for backend in (Serial(given), Pool(given, 2)):
        with backend:
            record = MemoryRecord(given)
            verdicts = [sorted(done.verdicts.values()) for done in play(record, backend)]
            assert np.array_equal(record.model.vector, with_ledger.final.vector)
            assert verdicts == [sorted(r.verdicts.values()) for r in with_ledger.task.settled]


def test_a_mean_without_the_updates_that_cannot_be_summed_is_that_of_a_run_with_a_ledger(tmp_path: Path) -> None:
    """They are found when the sum is there, and without them the weights of the others are other ones."""
    wild = AttackerConfig(attack=Method(method="gaussian@1", params={"deviation": 1e6}), count=2)
    config = experiment_with(selection={"method": "all@1"}).config.model_copy(update={"attackers": [wild]})
    given = make_experiment(config, Path())
    with_ledger = run(given, Chain(), LocalStore(tmp_path / "store"), tmp_path)
    for backend in (Serial(given), Pool(given, 2)):
        with backend:
            record = MemoryRecord(given)
            verdicts = [done.verdicts for done in play(record, backend)]
        assert record.sums
        assert np.array_equal(record.model.vector, with_ledger.final.vector)
        owners = [(r.owners, r.verdicts) for r in with_ledger.task.settled]
        expected = [{owner: found[i] for i, owner in people.items()} for people, found in owners]
        assert [{given.address(n): verdict for n, verdict in found.items()} for found in verdicts] == expected
        assert all(list(found.values()).count(Verdict.OUT_OF_RANGE) == 2 for found in verdicts)


def test_looking_at_updates_while_others_train_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = experiment_with(detection=DETECTION, aggregation=TRIMMED)
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
                record = MemoryRecord(given)
                list(play(record, backend))
                models.add(record.model.vector.tobytes())
        # Three updates in each of four rounds, three times, but for those that are refused before they are measured.
        assert 30 < len(looked) <= 36 if not long else not looked
    assert len(models) == len(reports) == 1


def test_many_who_join_together_train_as_few_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = experiment_with(rounds=2)
    models, people = set(), []
    for many in (2, 99):
        monkeypatch.setattr(enrolment, "MANY", many)
        folder = tmp_path / str(many)
        folder.mkdir()
        done = run(given, Chain(), LocalStore(folder / "store"), folder)
        models.add(done.final.vector.tobytes())
        people.append({done.history.owners[participant] for participant in done.task.enrolled})
    assert len(models) == 1
    assert people[0] == people[1] == {given.address(number) for number in range(5)}


def test_a_task_that_stops_early_does(tmp_path: Path) -> None:
    given = experiment_with(stopping={"target_correct": 30}, rounds=9)
    with Serial(given) as backend:
        played = len(list(play(MemoryRecord(given), backend)))
    assert 1 < played < 9


def test_a_duplicate_needs_somebody_to_copy() -> None:
    config = experiment_with().config
    alone = config.model_copy(
        update={
            "participants": 1,
            "attackers": [AttackerConfig(attack=Method(method="duplicate@1"))],
            "training": config.training.model_copy(update={"selection": Method(method="all@1")}),
        }
    )
    given = make_experiment(alone, Path())
    with Serial(given) as backend, pytest.raises(ConfigError, match="honest participant"):
        list(play(MemoryRecord(given), backend))


def test_rounds_that_wait_for_their_finality_need_a_ledger() -> None:
    given = experiment_with()
    config = given.config.model_copy(update={"ledger": LedgerConfig(max_unfinal=2)})
    given = make_experiment(config, Path())
    with pytest.raises(ConfigError, match="max_unfinal = 1"):
        MemoryRecord(given)


def test_a_beacon_needs_a_ledger() -> None:
    given = experiment_with(randomness="beacon")
    with pytest.raises(ConfigError, match="beacon"):
        MemoryRecord(given)


@pytest.mark.long
def test_the_command_gives_the_same_model_as_the_one_with_a_ledger(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        'name = "both"\nparticipants = 3\ncompare_with_mean = false\n'
        'model = { method = "mlp@1", params = { inputs = 64, hidden = [8], classes = 10 } }\n'
        '[training]\npipeline = "plain"\nrounds = 2\n'
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
