"""Rounds without a ledger: the model of a run with one, to the bit, or a clear refusal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedledger.contracts.chain import Chain
from fedledger.platform.backends.pool import Pool
from fedledger.platform.backends.serial import Serial
from fedledger.platform.config import ExperimentConfig
from fedledger.platform.engine import run
from fedledger.platform.setting import Setting, make_setting
from fedledger.platform.simulation import Simulation
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.store import LocalStore


def setting(**training: Any) -> Setting:
    document = {
        "name": "simulation",
        "participants": 5,
        "model": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [8], "classes": 10}},
        "compare_with_mean": False,
        "training": {"rounds": 4, "selection": {"method": "uniform@1", "params": {"count": 3}}, **training},
        "attackers": [{"attack": {"method": "free_rider@1"}}],
    }
    return make_setting(ExperimentConfig.model_validate(document), Path())


@pytest.mark.parametrize("optimiser", ["fedavg@1", "fedadam@1"])
def test_a_run_without_a_ledger_ends_with_the_model_of_one_with_it(tmp_path: Path, optimiser: str) -> None:
    given = setting(optimiser={"method": optimiser})
    with_ledger = run(given, Chain(), LocalStore(tmp_path / "store"), tmp_path)
    for backend in (Serial(given), Pool(given, 2)):
        with backend:
            simulation = Simulation(given, backend)
            assert [done.index for done in simulation.rounds()] == [1, 2, 3, 4]
            assert np.array_equal(simulation.model.vector, with_ledger.final.vector)


@pytest.mark.parametrize(
    ("training", "named"),
    [
        ({"detection": [{"method": "norm@1"}]}, "detection"),
        ({"aggregation": {"method": "median@1"}}, "median@1"),
        ({"stopping": {"patience": 3}}, "stopping"),
        ({"randomness": "beacon"}, "beacon"),
        ({"solver": {"method": "scaffold@1", "params": {"learning_rate": 0.1, "local_steps": 1}}}, "vectors"),
    ],
)
def test_what_it_does_not_do_is_refused(training: dict[str, Any], named: str) -> None:
    given = setting(**training)
    with Serial(given) as backend, pytest.raises(ConfigError, match=named):
        Simulation(given, backend)


def test_the_command_gives_the_same_model_as_the_one_with_a_ledger(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        'name = "both"\nparticipants = 3\ncompare_with_mean = false\n'
        'model = { method = "mlp@1", params = { inputs = 64, hidden = [8], classes = 10 } }\n'
        "[training]\nrounds = 2\n"
    )
    command = [sys.executable, "-m", "fedledger.platform.cli", "run", str(config), "--out", str(tmp_path / "runs")]
    documents = []
    for options in (["--chain", "embedded"], ["--no-ledger", "--backend", "serial"], ["--no-ledger", "--workers", "2"]):
        done = subprocess.run([*command, *options, "--format", "json"], capture_output=True, text=True, check=True)
        documents.append(json.loads(done.stdout))
    assert len({document["final_model"] for document in documents}) == 1
    assert len({document["accuracy"] for document in documents}) == 1
    refused = subprocess.run([*command, "--no-ledger", "--backend", "pol"], capture_output=True, text=True, check=False)
    assert refused.returncode == 3
    assert "pool@1" in refused.stderr
