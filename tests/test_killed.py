"""Runs that are killed and resumed: the undisturbed run's model."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.killed import ANVIL, CHECKPOINT, EMBEDDED, UNRECORDED, play, undisturbed

KILLS = {UNRECORDED: 3, CHECKPOINT: 3, EMBEDDED: 2, ANVIL: 2}


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    unrecorded, recorded = undisturbed(UNRECORDED), undisturbed(EMBEDDED)
    assert unrecorded and recorded
    return {UNRECORDED: unrecorded, CHECKPOINT: unrecorded, EMBEDDED: recorded, ANVIL: recorded}


@pytest.mark.parametrize("kind", KILLS)
def test_a_run_that_is_killed_ends_as_the_undisturbed_one(expected: dict[str, str], tmp_path: Path, kind: str) -> None:
    outcome = play(kind, 0, KILLS[kind], tmp_path)
    assert not outcome.problem
    assert len(outcome.victims) == KILLS[kind]
    assert outcome.model == expected[kind]
