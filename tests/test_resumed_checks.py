"""A run with spot checks goes on with the history that it had: its chain has the same blocks again, or it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.reverts import RefusedError
from fedledger.platform.runs.ledger_run import open_chain
from fedledger.protocol.errors import ConfigError, ExitCode, StoreError
from support.command_line import caller
from support.small import write_config
from support.stopped import told

CHECKED = """
measurement = "exact"
solver = { method = "replayable_sgd@1", params = { learning_rate = 0.1, batch_size = 32, local_epochs = 1 } }
[[attackers]]
attack = { method = "little_work@1" }
[ledger]
challenge_window = 30
check_rate = 1_000_000
check_period = 10
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
Call = Callable[..., tuple[int, str, str]]
OWNER = "0x" + "11" * 20
LINE = {"kind": "payment", "value": [OWNER, 10**18], "elapsed": 0.1}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.long
def test_a_killed_run_goes_on_with_its_checks_and_ends_once(tmp_path: Path, call: Call) -> None:
    config, folder = write_config(tmp_path, participants=3, rounds=4, extra=CHECKED), tmp_path / "run"
    folder.mkdir()
    program = [sys.executable, "-m", "support.stopped", str(config), str(folder)]
    done = subprocess.run(program, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with open_chain("embedded", folder) as chain:
        assert told(chain, folder) == done.stdout.splitlines()
    blocks = (folder / "chain.jsonl").read_text()

    resume = "run", config, "--resume", folder, "--backend", "serial", "--chain", "embedded"
    code, _, errors = call(*resume)
    assert code == 0, errors
    assert (folder / "chain.jsonl").read_text().startswith(blocks)
    code, shown, errors = call("audit", folder)
    assert code == 0 and "reproduced" in shown, errors

    before = contents(folder)
    assert call(*resume)[0] == 0
    # These tell how long the program took.
    timed = {"run.json", "report.html"}
    after = contents(folder)
    assert {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)} <= timed

    (folder / "chain.jsonl").write_text(json.dumps(LINE) + "\n")
    code, _, errors = call(*resume)
    assert code == ExitCode.CONFIG and "spot checks were drawn by the hashes of blocks" in " ".join(errors.split())


def journalled(path: Path) -> Chain:
    """Return a new embedded chain that goes on where a journal ends."""
    chain = Chain()
    chain.keep_journal(path)
    return chain


def hashes(chain: Chain) -> list[bytes]:
    return [bytes(chain.block(number)["hash"]) for number in range(chain.block_number() + 1)]


def test_blocks_are_made_again_with_their_hashes_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "chain.jsonl"
    first = journalled(path)
    first.fund(OWNER, 5)
    first.advance(1000)
    known = hashes(first)
    with path.open("a") as file:
        # As by a program that was killed.
        file.write('{"kind": "block", "times')
    again = journalled(path)
    assert hashes(again) == known and again.balance(OWNER) == 5
    again.fund("0x" + "22" * 20, 7)
    assert hashes(journalled(path)) == hashes(again) and hashes(again)[: len(known)] == known

    lines = path.read_text().splitlines()
    altered = json.loads(lines[-1])
    path.write_text("\n".join([*lines[:-1], json.dumps({**altered, "timestamp": altered["timestamp"] + 1})]))
    with pytest.raises(ConfigError, match="another history"):
        journalled(path)
    path.write_text("\n".join([*lines, json.dumps(LINE)]))
    with pytest.raises(StoreError, match="part of two"):
        journalled(path)
    path.write_text("\n".join([lines[0], json.dumps({**altered, "transactions": ["00ff"]})]))
    with pytest.raises(RefusedError):
        journalled(path)


def test_a_journal_without_blocks_is_read_and_kept_as_before(tmp_path: Path) -> None:
    path = tmp_path / "chain.jsonl"
    path.write_text(json.dumps(LINE) + "\n")
    chain = journalled(path)
    assert chain.has_other_blocks and chain.balance(OWNER) == 10**18
    chain.advance(60)
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["payment", "advance"]
    assert journalled(path).block_number() == chain.block_number()
