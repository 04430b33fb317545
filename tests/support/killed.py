"""Runs whose processes are killed with SIGKILL at random moments, and resumed until they end.

Run PYTHONPATH=tests python -m support.killed [--first 0] [--kills 100] [--format text|json].

Kill by kill, any process of the run may be hit: the program itself, one of its workers, or its chain. Of every four
kills two hit a run without a ledger whose participants keep states (SCAFFOLD, in the pool, a checkpoint after every
round), one of these as soon as a checkpoint is being written; one hits a run on the embedded chain, one a run on Anvil.
A killed run is resumed, with what was last written, and killed again when its turn comes; in the end each must have the
final model of the run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

NO_LEDGER, CHECKPOINT, EMBEDDED, ANVIL = "no ledger", "in a checkpoint", "embedded", "anvil"
KINDS = (NO_LEDGER, CHECKPOINT, EMBEDDED, ANVIL)
KILLS_A_RUN = 3
LONGEST = 120.0
EARLY, LATEST = 0.2, 1.0
"""Share of the kills that come within ``LATEST`` seconds of the start, and not of the first sign of work."""
MODEL = '{ method = "mlp@1", params = { inputs = 64, hidden = [16], classes = 10 } }'
CONFIG = """
name = "killed"
participants = 5
compare_with_mean = false
model = {model}
[training]
pipeline = "plain"
rounds = {rounds}
solver = {{ method = "scaffold@1", params = {{ learning_rate = 0.1, local_epochs = 1 }} }}
selection = {{ method = "uniform@1", params = {{ count = 3 }} }}
"""
_CHILD = """
import json, sys
from pathlib import Path
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.runs.plain_run import run_without_ledger
config, folder = Path(sys.argv[1]), Path(sys.argv[2])
experiment = make_experiment(load_config(config), config.parent)
print(json.dumps(run_without_ledger(experiment, folder, "pool", 2, checkpoint_seconds=0.0)))
"""


@dataclass
class Outcome:
    """A run that was killed: how often and where, and what came of it."""

    kind: str
    seed: int
    victims: list[str]
    model: str = ""
    problem: str = ""


def play(kind: str, seed: int, kills: int, folder: Path) -> Outcome:
    """Run to the end, killed so many times."""
    draws = random.Random(f"{kind} {seed}")
    ledger = kind in (EMBEDDED, ANVIL)
    config, run = folder / "config.toml", folder / "run"
    config.write_text(CONFIG.format(model=MODEL, rounds=4 if ledger else 60))
    run.mkdir()
    if ledger:
        options = ["--chain", kind, "--workers", "2", "--resume", str(run), "--format", "json"]
        command = [sys.executable, "-m", "fedledger.platform.cli.app", "run", str(config), *options]
    else:
        command = [sys.executable, "-c", _CHILD, str(config), str(run)]
    outcome = Outcome(kind, seed, [])
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        began = time.time()
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        if len(outcome.victims) < kills:
            is_early = draws.random() < EARLY
            _wait(process, kind, run, began, is_early, draws.uniform(0.0, LATEST))
            victim = _victim(process, draws)
            if victim is not None:
                outcome.victims.append(victim)
        written, _ = process.communicate(timeout=LONGEST)
        if process.returncode == 0:
            outcome.model = json.loads(written)["final_model"]
            if len(outcome.victims) >= kills:
                return outcome
            # It was faster than the kill: once more from the start.
            _forget(run)
    outcome.problem = f"not done in {LONGEST:.0f} s:\n{(folder / 'log.txt').read_text()[-3000:]}"
    return outcome


def _wait(process: subprocess.Popen[bytes], kind: str, run: Path, began: float, is_early: bool, seconds: float) -> None:
    """Wait for the moment of a kill, or for the end of the program; it may be early, or after a first sign of work."""
    while not is_early and process.poll() is None and not _works(run, began):
        time.sleep(0.01)
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    while kind == CHECKPOINT and process.poll() is None and not any(run.glob(".tmp-*")):
        pass


def _works(run: Path, began: float) -> bool:
    """Return whether a run has written something since it was started."""
    signs = [path for path in (run / "checkpoint.safetensors", run / "journal") if path.exists()]
    return any(path.stat().st_mtime > began for sign in signs for path in (sign, *sign.glob("*/*")))


def _victim(process: subprocess.Popen[bytes], draws: random.Random) -> str | None:
    """Kill one of the run's processes and return its name, or None if it has ended."""
    everybody = [process.pid, *_descendants(process.pid)]
    chosen = draws.choice(everybody) if draws.random() < 0.5 else process.pid
    with contextlib.suppress(OSError):
        name = Path(f"/proc/{chosen}/comm").read_text().strip()
        if process.poll() is None:
            os.kill(chosen, signal.SIGKILL)
            return f"{name}, the program" if chosen == process.pid else f"{name}, a child"
    return None


def _descendants(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _forget(run: Path) -> None:
    for path in sorted(run.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


def undisturbed(kind: str) -> str:
    """Return the final model of a run of a kind that nobody kills."""
    with tempfile.TemporaryDirectory() as folder:
        return play(kind, 0, 0, Path(folder)).model


def main() -> int:
    """Kill, and say whether all runs ended alike."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--kills", type=int, default=100, help="how many")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    expected = {kind: undisturbed(kind) for kind in (NO_LEDGER, EMBEDDED)}
    expected |= {CHECKPOINT: expected[NO_LEDGER], ANVIL: expected[EMBEDDED]}
    outcomes: list[Outcome] = []
    left, seed = options.kills, options.first
    while left > 0:
        kind, kills = KINDS[seed % len(KINDS)], min(left, KILLS_A_RUN)
        with tempfile.TemporaryDirectory() as folder:
            outcome = play(kind, seed, kills, Path(folder))
        if not outcome.problem and outcome.model != expected[kind]:
            outcome.problem = f"ended with {outcome.model}, not with {expected[kind]}"
        outcomes.append(outcome)
        print(f"seed {seed:3d} {kind}: {'; '.join(outcome.victims)} {outcome.problem or 'ok'}", file=sys.stderr)
        left, seed = left - len(outcome.victims), seed + 1
    failed = [outcome for outcome in outcomes if outcome.problem]
    if options.format == "json":
        print(json.dumps({"expected": expected, "runs": [asdict(outcome) for outcome in outcomes]}))
    else:
        killed = sum(len(outcome.victims) for outcome in outcomes)
        print(f"{killed} kills in {len(outcomes)} runs, {len(failed)} of which did not end as the undisturbed one")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
