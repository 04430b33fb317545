"""One final model wherever and however a task is run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.ledger_tools.deploy import Deployment
from fedledger.platform.experiment.checked_data import least_stake
from fedledger.protocol.units import GWEI
from support.ipfs_daemon import ipfs_daemon
from support.small import Small, run_small, write_config

CLI = [sys.executable, "-m", "fedledger.platform.cli.app"]
BATCHED = "[ledger]\nbatched = true\n"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return run_small(tmp_path_factory.mktemp("embedded"), Chain())


@pytest.mark.parametrize("kind", ["anvil", "ganache"])
def test_every_chain_gives_the_same_model(reference: Small, tmp_path: Path, kind: str) -> None:
    with running_chain(kind) as process:  # type: ignore[arg-type]
        small = run_small(tmp_path, Chain(process.url))
    assert small.summary["final_model"] == reference.summary["final_model"]
    assert [p["credit"] for p in small.summary["participants"]] == [
        p["credit"] for p in reference.summary["participants"]
    ]


def test_separate_processes_over_ipfs_give_the_same_model(reference: Small, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with running_chain("anvil") as chain, ipfs_daemon(tmp_path) as store:
        at = ["--rpc", chain.url, "--deployment", str(tmp_path / "deployment.json")]
        _cli(["deploy", "--rpc", chain.url, "--experiment-seed", "0", "--output", str(tmp_path / "deployment.json")])
        _cli(["task", "post", str(config), *at, "--store", store])
        nodes = [
            _start(["node", "start", str(config), *at, "--store", store, "--participant", str(i)], tmp_path, f"node{i}")
            for i in range(4)
        ]
        folder = ["--mailbox", str(tmp_path / "mailbox")]
        done = _cli(["aggregator", "start", str(config), *at, *folder, "--store", store, "--format", "json"])
        for node in nodes:
            assert node.wait(timeout=60) == 0
        assert json.loads(done)["final_model"] == reference.summary["final_model"]
        audited = json.loads(_cli(["audit", *at, "--task", "1", "--store", store, "--format", "json"]))
        assert audited["reproduced"] is True


@pytest.mark.long
@pytest.mark.parametrize("extra", ["", BATCHED], ids=["direct", "batched"])
def test_killing_nodes_and_the_aggregator_loses_nothing(reference: Small, tmp_path: Path, extra: str) -> None:
    config = write_config(tmp_path, extra=extra)
    draw = random.Random(7)
    with running_chain("anvil") as chain:
        at = ["--rpc", chain.url, "--deployment", str(tmp_path / "deployment.json")]
        local = ["--store-dir", str(tmp_path / "store")]
        _cli(["deploy", "--rpc", chain.url, "--experiment-seed", "0", "--output", str(tmp_path / "deployment.json")])
        subprocess.run([*CLI, "task", "post", str(config), *at], cwd=tmp_path, env=ENVIRONMENT, check=True)
        commands = {
            f"node{i}": [
                "node",
                "start",
                str(config),
                *at,
                *local,
                "--participant",
                str(i),
                "--journal",
                str(tmp_path / f"j{i}"),
            ]
            for i in range(4)
        }
        mailbox = ["--mailbox", str(tmp_path / "mailbox")]
        commands["aggregator"] = ["aggregator", "start", str(config), *at, *local, *mailbox]
        running = {name: _start(command, tmp_path, name) for name, command in commands.items()}
        kills = 0
        while running["aggregator"].poll() is None:
            time.sleep(draw.uniform(0.3, 2.0))
            if kills < 10:
                name = draw.choice(sorted(running))
                if running[name].poll() is None:
                    running[name].send_signal(signal.SIGKILL)
                    running[name].wait()
                    running[name] = _start(commands[name], tmp_path, name)
                    kills += 1
        assert running["aggregator"].returncode == 0
        for process in running.values():
            assert process.wait(timeout=60) == 0
        history = json.loads(_cli(["history", *at, "--format", "json"]))
        people = json.loads(_cli(["history", *at, "--participants", "--format", "json"]))
        ledger = Deployment.read(tmp_path / "deployment.json").open(Chain(chain.url))
        stakes = {ledger.participant(number).stake for number in range(4)}
    assert kills == 10
    assert stakes == {least_stake(reference.experiment.config) * GWEI}
    assert history[-1]["model"] == reference.summary["final_model"], history
    assert [p["credit"] for p in people] == [p["credit"] for p in reference.summary["participants"]]


@pytest.mark.long
def test_a_run_that_was_killed_is_resumed(reference: Small, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    command = ["run", str(config), "--chain", "embedded", "--out", str(tmp_path / "runs"), "--format", "json"]
    process = _start(command, tmp_path, "run")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "runs").glob("*/journal/*/*-2.update")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder,) = (tmp_path / "runs").iterdir()
    resumed = json.loads(_cli(["run", str(config), "--resume", str(folder), "--format", "json"]))
    assert resumed["final_model"] == reference.summary["final_model"] and resumed["rounds"] == 3


def _cli(arguments: list[str]) -> str:
    done = subprocess.run([*CLI, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _start(arguments: list[str], folder: Path, name: str) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen([*CLI, *arguments], env=ENVIRONMENT, cwd=folder, stdout=log, stderr=log)
