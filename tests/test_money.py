"""What attacks on the ledger move: all of it has an owner or is burned, and the document tells the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedledger.platform.bench.tables import between_marks, markdown_table
from support.money import ATTACKS, COMMAND, ROLES, Moved, cells, played


@pytest.fixture(scope="module")
def moved() -> dict[str, Moved]:
    return {name: played(name) for name in ATTACKS}


def test_what_one_loses_others_gain_or_nobody(moved: dict[str, Moved]) -> None:
    for each in moved.values():
        assert sum(each.gains.values()) + each.burned == 0 and set(each.gains) == set(ROLES)


def test_a_liar_loses_its_whole_bond_whatever_its_friends_do(moved: dict[str, Moved]) -> None:
    for name in ("denied", "rightful_appeal", "twice_in_the_root", "shared_gain", "gain_of_the_oldest"):
        assert moved[name].gains["aggregator"] == -moved[name].bond
    for name in ("condemned_and_burned", "second_deposit"):
        # Who challenged without cause has paid it half of a bond.
        assert moved[name].gains["aggregator"] == moved[name].bond // 2 - moved[name].bond


def test_jurors_who_are_right_earn_a_seat_or_more_and_who_cannot_judge_loses_nothing(moved: dict[str, Moved]) -> None:
    assert moved["denied"].gains["jurors"] >= 3 * moved["denied"].seat
    assert moved["two_unable_juries"].gains["jurors"] == 0
    assert moved["two_unable_juries"].gains["objectors"] == -2 * moved["two_unable_juries"].seat
    for name in ("half_of_the_votes", "left_after", "nothing_at_all"):
        assert moved[name].gains["objectors"] == 0 and moved[name].gains["jurors"] % moved[name].seat == 0


def test_the_document_has_the_table(moved: dict[str, Moved], root: Path) -> None:
    text = (root / "docs" / "threat-model.md").read_text()
    assert between_marks(text, COMMAND, markdown_table(cells(list(moved.values())))) == text
