"""Whatever happens to chain, store and programs: the undisturbed run's model and pay, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SEEDS = 10


@pytest.fixture(scope="module")
def played(root: Path) -> dict[str, Any]:
    paths = [str(root / "tests"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [sys.executable, "-m", "support.chaos", "--seeds", str(SEEDS), "--format", "json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_undisturbed_run_ends_well(played: dict[str, Any]) -> None:
    assert not played["undisturbed"]["problems"]
    assert len(played["undisturbed"]["credits"]) == 4 and all(played["undisturbed"]["credits"].values())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_run_under_chaos_ends_as_the_undisturbed_one(played: dict[str, Any], seed: int) -> None:
    run = played["runs"][seed]
    assert run["seed"] == seed and not run["problems"], "\n".join(run["problems"])
    assert (run["model"], run["credits"]) == (played["undisturbed"]["model"], played["undisturbed"]["credits"])
    assert sum(run["faults"].values()) > 2, "hardly anything has happened"
