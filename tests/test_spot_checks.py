"""Spot checks of a task: who is drawn shows what its update follows from, and who did not train pays."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import ChainProcess, start_chain
from fedledger.contracts.ledger.check_history import CheckHistory
from fedledger.contracts.ledger.records import CheckState, Offence
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.deploy import Deployment
from fedledger.platform.engine import checking
from fedledger.platform.spot_checks.findings import Judged
from fedledger.platform.spot_checks.judge import TaskJudge
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.units import GWEI
from support.consortium import ENVIRONMENT
from support.small import Small, run_small, write_config

CLI = [sys.executable, "-m", "fedledger.platform.cli.app"]
SOLVER = (
    'solver = { method = "replayable_sgd@1", params = { learning_rate = 0.1, batch_size = 16, local_epochs = 1 } }\n'
)
TOP_K = 'payload = [{ name = "delta", codec = { method = "top_k@1", params = { k = 200 } } }]\n'
RIDER = '[[attackers]]\nattack = { method = "little_work@1" }\n'
STAKE = 1_000_000 * GWEI


def terms(rate: int = 1_000_000, training: str = "", ledger: str = "", attackers: str = "") -> str:
    """Return what a small experiment with spot checks says besides."""
    solver = "" if "solver = " in training else SOLVER
    return (
        f'measurement = "exact"\n{solver}{training}\n{attackers}[ledger]\nchallenge_window = 30\n'
        f"check_rate = {rate}\ncheck_period = 60\nstake_gwei = 1_000_000\n{ledger}"
    )


def states(played: Small) -> dict[tuple[int, int], CheckState]:
    return {(check.round, check.participant): check.state for check in played.run.task.checks}


def rider_of(played: Small) -> int:
    """Return the number on the ledger of the only participant that does not train as it should."""
    experiment, history = played.experiment, played.run.history
    (rider,) = (n for n, name in enumerate(experiment.behaviours) if name != "honest")
    return history.ids[experiment.address(rider)]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return run_small(tmp_path_factory.mktemp("honest"), Chain(), extra=terms())


def test_who_trains_passes_every_check(honest: Small) -> None:
    task = honest.run.task
    assert len(task.checks) == 12 and set(states(honest).values()) == {CheckState.PASSED}
    assert all(check.transcript for check in task.checks) and not task.slashes
    assert [len(task.data[i]) for i in task.enrolled] == [1] * 4


def test_block_hashes_reach_nothing_that_an_honest_run_makes(honest: Small, tmp_path: Path) -> None:
    chain = Chain()
    chain.advance(12_345)
    other = run_small(tmp_path, chain, extra=terms())
    seeds = [[current.check_seed for current in each.run.task.rounds.values()] for each in (honest, other)]
    assert not set(seeds[0]) & set(seeds[1])
    assert honest.summary["final_model"] == other.summary["final_model"]


@pytest.mark.parametrize(
    ("training", "ledger"),
    [
        ("spot_checks = { windows = { steps = 2, drawn = 2 } }\n", ""),
        pytest.param("", "batched = true\n", marks=pytest.mark.long),
        pytest.param("committed_data = { every = 2 }\n", "max_unfinal = 2\n", marks=pytest.mark.long),
        pytest.param(TOP_K, "", marks=pytest.mark.long),
    ],
    ids=["windows", "batched", "unfinal", "top-k"],
)
def test_checks_of_other_tasks_pass_too(tmp_path: Path, training: str, ledger: str) -> None:
    played = run_small(tmp_path, Chain(), extra=terms(training=training, ledger=ledger))
    assert len(played.run.task.checks) == 12 and set(states(played).values()) == {CheckState.PASSED}


def test_who_does_not_train_fails_and_pays(tmp_path: Path) -> None:
    played = run_small(tmp_path, Chain(), extra=terms(attackers=RIDER))
    rider = rider_of(played)
    found = states(played)
    assert {i for (_, i), state in found.items() if state is CheckState.ENDED} == {rider}
    slashes = played.run.task.slashes
    assert {(slash.participant, slash.offence) for slash in slashes} == {(rider, Offence.FAILED_CHECK)}
    assert sum(slash.amount for slash in slashes) == STAKE
    counts = Counter("passed" if state is CheckState.PASSED else "failed" for state in found.values())
    assert played.summary["checks"] == {"checks": 12, **counts, "cost": str(STAKE)}
    own = [each["checks"] for each in played.summary["participants"] if each["behaviour"] != "honest"]
    assert own == [{"failed": counts["failed"]}]
    evidence = played.run.history.evidence(played.run.task.publisher, rider)
    assert evidence.positive == 0 and evidence.negative > 0


@pytest.mark.parametrize("batched", [False, pytest.param(True, marks=pytest.mark.long)])
def test_who_has_lost_its_stake_is_not_paid_any_more(tmp_path: Path, batched: bool) -> None:
    extra = terms(attackers=RIDER, ledger="batched = true\n" if batched else "")
    played = run_small(tmp_path, Chain(), rounds=9, extra=extra.replace("check_period = 60", "check_period = 10"))
    rider, task = rider_of(played), played.run.task
    without = [r for r in task.settled if rider not in r.staked]
    assert without and all(r.verdicts[rider] is not Verdict.ACCEPTED for r in without)
    assert all(not r.proposal.shares.get(rider) for r in without if r.proposal is not None)
    assert played.run.ledger.participant(rider).stake == played.run.history.stakes[rider] < STAKE


class Liar(TaskJudge):
    """The first of the auditors says that everybody fails."""

    def __call__(self, task: TaskHistory, check: CheckHistory, is_last_try: bool) -> Judged | None:
        first = self.access.address == self.access.spec.spot_checks.accounts[0]  # type: ignore[union-attr]
        return Judged(False, reason="a lie") if first else super().__call__(task, check, is_last_try)


def test_a_false_failure_is_appealed_against(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "TaskJudge", Liar)
    played = run_small(tmp_path, Chain(), rounds=2, extra=terms(attackers=RIDER))
    rider = rider_of(played)
    checks = played.run.task.checks
    appealed = [check for check in checks if len(check.answers) == 2]
    assert appealed and {check.state for check in checks if check.participant != rider} == {CheckState.PASSED}
    assert all(check.auditor == 1 for check in appealed) and rider not in {check.participant for check in appealed}
    assert {slash.participant for slash in played.run.task.slashes} <= {rider}
    ledger, history = played.run.ledger, played.run.history
    for check in appealed:
        assert ledger.participant(check.participant).stake == STAKE
        assert ledger.free_balance(history.owners[check.participant]) >= STAKE // 4


class Silent(TaskJudge):
    """No auditor says anything."""

    def __call__(self, task: TaskHistory, check: CheckHistory, is_last_try: bool) -> Judged | None:
        return None


def test_an_auditor_s_silence_fails_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "TaskJudge", Silent)
    played = run_small(tmp_path, Chain(), rounds=1, extra=terms(attackers=RIDER))
    assert set(states(played).values()) == {CheckState.ANSWERED} and not played.run.task.slashes


@pytest.mark.long
@pytest.mark.parametrize("batched", [False, True])
def test_programs_catch_a_rider(tmp_path: Path, batched: bool) -> None:
    """Nodes, aggregator and auditors are programs of their own; one participant does not train."""
    ledger = f"penalty_gwei = 0\nexit_delay = 200000\n{'batched = true' if batched else ''}\ngrace_period = 5\n"
    config = tmp_path / "config.toml"

    extra = terms(1_000_000, ledger=ledger, attackers=RIDER).replace("challenge_window = 30", "challenge_window = 1")
    write_config(tmp_path, rounds=4, extra=extra.replace("check_period = 60", "check_period = 6"))
    with started_chain() as chain:
        at = ["--rpc", chain.url, "--deployment", str(tmp_path / "deployment.json")]
        store = ["--store-dir", str(tmp_path / "store")]
        deploy = ["--dispute-period", "60", "--exit-delay", "200000"]
        _run(tmp_path, "deploy", *at[:2], "--experiment-seed", "0", *deploy, "--output", at[3])
        _run(tmp_path, "task", "post", str(config), *at, *store)
        programs = [
            _start(tmp_path, f"node{i}", "node", "start", str(config), *at, *store, "--participant", str(i))
            for i in range(4)
        ]
        programs += [
            _start(tmp_path, f"auditor{i}", "auditor", "start", *at, *store, "--experiment-seed", "0", "--auditor", i)
            for i in range(2)
        ]
        _run(tmp_path, "aggregator", "start", str(config), *at, *store)
        until = time.monotonic() + 300
        for program in programs:
            assert program.wait(max(1.0, until - time.monotonic())) == 0
        found = json.loads(_run(tmp_path, "history", *at, "--task", "1", "--participants", "--format", "json"))
        audited = json.loads(_run(tmp_path, "audit", *at, *store, "--task", "1", "--format", "json"))
        deployed = Deployment.read(tmp_path / "deployment.json")
        assert deployed.open(Chain(chain.url)).participant_count() == 4
    assert audited["reproduced"] is True
    slashed = [row for row in found if "failed check" in row["slashed"]]
    assert len(slashed) == 1 and slashed[0]["slashed"]["failed check"] == str(STAKE)
    logs = {path.name: path.read_text() for path in tmp_path.glob("*.log")}
    assert any(re.search("participant . fails", logs[f"auditor{i}.log"]) for i in range(2))
    assert sum("the check of participant" in log for log in logs.values()) >= 1


@contextmanager
def started_chain() -> Iterator[ChainProcess]:
    """Run a chain on which time passes by itself."""
    chain = start_chain("anvil", block_time=1)
    try:
        yield chain
    finally:
        chain.stop()


def _run(folder: Path, *words: Any) -> str:
    command = [*CLI, *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _start(folder: Path, name: str, *words: Any) -> subprocess.Popen[bytes]:
    (folder / name).mkdir()
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [*CLI, *map(str, words)], cwd=folder / name, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT
        )
