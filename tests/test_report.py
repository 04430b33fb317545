"""The report shows few participants one by one, many by behaviour, and nothing as markup that others wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedledger.learning.label_counts import LabelCounts
from fedledger.ledger_tools.report.run_report import MAX_LINES, MAX_REFUSALS, write_report
from support.pages import figures


def report(path: Path, participants: int, refusals: int = 1, title: str = "small") -> str:
    addresses = [f"0x{i:040x}" for i in range(participants)]
    rounds = pd.Index([1, 2], name="round")
    reputations = pd.DataFrame([[100_000 * (i % 10) for i in range(participants)]] * 2, rounds, addresses)
    verdicts = pd.DataFrame([["accepted"] * participants, ["norm", *[None] * (participants - 1)]], rounds, addresses)
    write_report(
        path / "report.html",
        title,
        {"chain": "none"},
        [{"round": r, "accuracy": r / 2, "accepted": 1, "refused": 0, "gas": 10 * r} for r in (1, 2)],
        [0.1, 0.2],
        reputations,
        pd.DataFrame(1, rounds, addresses),
        verdicts,
        [
            {
                "address": address,
                "behaviour": "sign_flip" if address == addresses[0] else "honest",
                "accepted": 1,
                "refused": {},
                "reputation": 0,
                "credit": 0,
            }
            for address in addresses
        ],
        [{"round": 1, "address": addresses[0], "reason": "norm", "detail": "<script>alert(1)</script>"}] * refusals,
        LabelCounts(np.ones((participants, 2), np.int64)),
    )
    return (path / "report.html").read_text(encoding="utf-8")


def test_few_participants_have_a_line_each(tmp_path: Path) -> None:
    accuracy, reputation, verdicts, pay, gas = figures(report(tmp_path, 3))
    assert [trace["name"] for trace in accuracy] == ["fedledger", "plain mean, no defence"]
    assert [trace["y"] for trace in reputation] == [[0, 0], [0.1, 0.1], [0.2, 0.2]]
    assert [trace["line"]["dash"] for trace in reputation] == ["dash", "solid", "solid"]
    assert [trace["y"] for trace in pay] == [[1, 2]] * 3
    assert gas[0]["y"] == [10]
    # Attackers come last; who was not selected is shown as such.
    expected = [["accepted", "not selected"], ["accepted", "not selected"], ["accepted", "norm"]]
    assert verdicts[0]["text"] == expected


def test_many_participants_are_shown_by_behaviour(tmp_path: Path) -> None:
    _, reputation, verdicts, _, _ = figures(report(tmp_path, MAX_LINES + 1))
    named = {trace["name"]: trace["y"] for trace in reputation if trace.get("showlegend", True)}
    assert set(named) == {"honest, median", "honest, middle 80 %", "sign_flip, median", "sign_flip, middle 80 %"}
    assert named["honest, median"] == pytest.approx([0.45, 0.45], abs=0.06)
    assert len(verdicts[0]["z"]) == MAX_LINES + 1


def test_what_others_wrote_is_text_and_a_long_list_is_cut(tmp_path: Path) -> None:
    page = report(tmp_path, 2, refusals=MAX_REFUSALS + 7, title="<b>bold</b>")
    assert "<b>bold" not in page and "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") == MAX_REFUSALS
    assert "and 7 more" in page
