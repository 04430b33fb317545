"""Runs that are killed and resumed: the undisturbed run's model."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.killed import ANVIL, CHECKPOINT, EMBEDDED, NO_LEDGER, play, undisturbed
from support.quick import quick

KILLS = {NO_LEDGER: 3, CHECKPOINT: 3, EMBEDDED: 2, ANVIL: 2}


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    without_ledger, with_ledger = undisturbed(NO_LEDGER), undisturbed(EMBEDDED)
    assert without_ledger and with_ledger
    return {NO_LEDGER: without_ledger, CHECKPOINT: without_ledger, EMBEDDED: with_ledger, ANVIL: with_ledger}


@pytest.mark.parametrize("kind", quick(1, [EMBEDDED, NO_LEDGER, CHECKPOINT, ANVIL]))
def test_a_run_that_is_killed_ends_as_the_undisturbed_one(expected: dict[str, str], tmp_path: Path, kind: str) -> None:
    check(expected, tmp_path, kind, 1)


@pytest.mark.long
@pytest.mark.parametrize("kind", KILLS)
def test_a_run_that_is_killed_several_times_ends_likewise(expected: dict[str, str], tmp_path: Path, kind: str) -> None:
    check(expected, tmp_path, kind, KILLS[kind])


def check(expected: dict[str, str], folder: Path, kind: str, kills: int) -> None:
    outcome = play(kind, 0, kills, folder)
    assert not outcome.problem
    assert len(outcome.victims) == kills
    assert outcome.model == expected[kind]
