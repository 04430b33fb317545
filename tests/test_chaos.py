"""Whatever happens to chain, store and programs: the undisturbed run's model and pay, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SEEDS = 2
MORE_SEEDS = 8


def play(root: Path, first: int, seeds: int) -> dict[str, Any]:
    paths = [str(root / "tests"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [sys.executable, "-m", "support.chaos", "--first", str(first), "--seeds", str(seeds), "--format", "json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
        timeout=1_100,
    )
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def played(root: Path) -> dict[str, Any]:
    return play(root, 0, SEEDS)


@pytest.fixture(scope="module")
def more_played(root: Path) -> dict[str, Any]:
    return play(root, SEEDS, MORE_SEEDS)


def test_the_undisturbed_run_ends_well(played: dict[str, Any]) -> None:
    assert not played["undisturbed"]["problems"]
    assert len(played["undisturbed"]["credits"]) == 4 and all(played["undisturbed"]["credits"].values())


@pytest.mark.parametrize("place", range(SEEDS))
def test_a_run_under_chaos_ends_as_the_undisturbed_one(played: dict[str, Any], place: int) -> None:
    check(played, place, place)


@pytest.mark.long
@pytest.mark.parametrize("place", range(MORE_SEEDS))
def test_more_runs_under_chaos_end_as_the_undisturbed_one(more_played: dict[str, Any], place: int) -> None:
    check(more_played, place, SEEDS + place)


def check(played: dict[str, Any], place: int, seed: int) -> None:
    run = played["runs"][place]
    assert run["seed"] == seed and not run["problems"], "\n".join(run["problems"])
    assert (run["model"], run["credits"]) == (played["undisturbed"]["model"], played["undisturbed"]["credits"])
    assert sum(run["faults"].values()) > 2, "hardly anything has happened"
