"""The report shows few participants one by one, many by behaviour, and nothing as markup that others wrote."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fedledger.learning.label_counts import LabelCounts
from fedledger.ledger_tools.audit.check_view import ChecksView, CheckView
from fedledger.ledger_tools.report import page
from fedledger.ledger_tools.report.refusals import Refusal
from fedledger.ledger_tools.report.run_report import MAX_LINES, MAX_REFUSALS, write_report
from fedledger.ledger_tools.report.run_view import RunView
from fedledger.ledger_tools.report.task_view import ParticipantView, RoundView, TaskView
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.units import GWEI
from support.pages import figures

MODEL = ContentRef.of(b"model")


def view(participants: int, refusals: int = 1, **strings: str) -> RunView:
    """Return two rounds of a run, in the second of which the first participant's update is refused, others not."""
    addresses = [f"0x{i:040x}" for i in range(participants)]
    addresses[0] = strings.get("address", addresses[0])
    reason = strings.get("reason", "norm")
    reputations = {address: 100_000 * (i % 10) for i, address in enumerate(addresses)}

    def played(index: int, verdicts: dict[str, str]) -> RoundView:
        shares = dict.fromkeys(addresses, 1)
        counts = len(addresses), len(addresses), len(addresses)
        return RoundView(index, "settled", *counts, verdicts, shares, reputations, MODEL, MODEL, MODEL)

    rounds = played(1, dict.fromkeys(addresses, "accepted")), played(2, {addresses[0]: reason})
    people = tuple(
        ParticipantView(i, address, 1, {reason: 1}, 0, 0, 2, {"garbage": "5"}) for i, address in enumerate(addresses)
    )
    summary = {
        "name": strings.get("name", "small"),
        "final_model": MODEL.cid,
        "spec": MODEL.cid,
        "loss": 0.25,
        "score": 1.0,
        "objective": {"score_name": strings.get("score", "accuracy"), "loss_name": strings.get("loss", "nats")},
        "rounds": 2,
        "chain": strings.get("chain", "none"),
        "gas": 20,
        "seconds": 1.5,
        "challenge_window": 0,
    }
    return RunView(
        summary=summary,
        metrics=[
            {"round": r, "loss": 1 / r, "score": r / 2, "accepted": 1, "refused": 0, "gas": 10 * r} for r in (1, 2)
        ],
        task=TaskView(1, MODEL, MODEL, 0, rounds, people),
        behaviours={a: strings.get("behaviour", "sign_flip") if a == addresses[0] else "honest" for a in addresses},
        refusals=[Refusal(2, addresses[0], reason, strings.get("detail", ""))] * refusals,
        labels=LabelCounts(np.ones((participants, 2), np.int64)),
        plain_mean=[0.1, 0.2],
    )


def report(path: Path, shown: RunView) -> str:
    write_report(path / "report.html", shown)
    return (path / "report.html").read_text(encoding="utf-8")


def test_few_participants_have_a_line_each(tmp_path: Path) -> None:
    page = report(tmp_path, view(3, score="AUC", loss="binary cross-entropy (nats)"))
    score, loss, reputation, verdicts, pay, gas = figures(page)
    assert [(trace["name"], trace["y"]) for trace in score] == [
        ("fedledger", [0.5, 1.0]),
        ("plain mean, no defence", [0.1, 0.2]),
    ]
    assert [trace["y"] for trace in loss] == [[1.0, 0.5]]
    assert (
        "Test AUC" in page and "Test binary cross-entropy (nats)" in page and "accuracy" not in page.split("<body")[1]
    )
    assert [trace["y"] for trace in reputation] == [[0, 0], [0.1, 0.1], [0.2, 0.2]]
    assert [trace["line"]["dash"] for trace in reputation] == ["dash", "solid", "solid"]
    assert [trace["y"] for trace in pay] == [[1, 2]] * 3
    assert gas[0]["y"] == [10]
    # Attackers come last; who was not selected is shown as such.
    expected = [["accepted", "not selected"], ["accepted", "not selected"], ["accepted", "norm"]]
    assert verdicts[0]["text"] == expected


def test_many_participants_are_shown_by_behaviour(tmp_path: Path) -> None:
    _, _, reputation, verdicts, _, _ = figures(report(tmp_path, view(MAX_LINES + 1)))
    named = {trace["name"]: trace["y"] for trace in reputation if trace.get("showlegend", True)}
    assert set(named) == {"honest, median", "honest, middle 80 %", "sign_flip, median", "sign_flip, middle 80 %"}
    assert named["honest, median"] == pytest.approx([0.45, 0.45], abs=0.06)
    assert len(verdicts[0]["z"]) == MAX_LINES + 1


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    written = report(tmp_path, view(2, refusals=MAX_REFUSALS + 7, detail="<i>why</i>"))
    assert written.count("<td>&lt;i&gt;why") == MAX_REFUSALS
    assert "and 7 more" in written


def test_spot_checks_have_a_map(tmp_path: Path) -> None:
    shown = view(3)
    assert "Spot checks" not in report(tmp_path, shown) and "spot checks" not in report(tmp_path, shown)
    first, second, third = (person.address for person in shown.task.participants)

    def row(index: int, address: str, outcome: str) -> CheckView:
        return CheckView(index, address, 1, None, outcome, f"{outcome} in words", True, "0", "00")

    rows = row(1, first, "failed"), row(1, second, "passed"), row(2, third, "open")
    checks = ChecksView(50_000, 600, 3 * GWEI, 2, 3, rows)
    page = report(tmp_path, replace(shown, task=replace(shown.task, checks=checks)))
    maps = [figure[0] for figure in figures(page) if figure[0].get("text") and figure[0]["type"] == "heatmap"]
    assert maps[1]["text"] == [["passed", "not checked"], ["not checked", "open"], ["failed", "not checked"]]
    assert maps[1]["customdata"][2] == [" (failed in words; auditor 1)", ""]
    assert "5 % of the accepted updates, by one of 2 auditors; a failed check costs 3 gwei" in page
    assert "1 passed, 1 failed, 1 open" in page


HOSTILE = "</script></style><script>alert(1)</script><b title=\"'&"


@pytest.mark.parametrize("field", ["name", "chain", "address", "reason", "detail", "behaviour", "score", "loss"])
@pytest.mark.parametrize("participants", [2, MAX_LINES + 1])
def test_what_strangers_wrote_is_never_markup(tmp_path: Path, field: str, participants: int) -> None:
    harmless, hostile = (report(tmp_path, view(participants, **{field: text})) for text in ("harmless", HOSTILE))
    assert "harmless" in harmless and "alert(1)" in hostile
    assert "<script>alert" not in hostile and "<b title" not in hostile
    assert tags(hostile) == tags(harmless)


def test_tables_of_pages_escape_their_headings_and_cells(tmp_path: Path) -> None:
    markup = page.table([{HOSTILE: HOSTILE}])
    assert markup.count("&lt;script&gt;alert(1)") == 2 and "<script" not in markup
    page.write_page(tmp_path / "page.html", HOSTILE, HOSTILE, [markup])
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in written and written.count("&lt;script&gt;alert(1)") == 5


def test_a_text_that_is_not_markup_is_escaped_on_a_page(tmp_path: Path) -> None:
    page.write_page(tmp_path / "page.html", "title", "subtitle", [HOSTILE])  # type: ignore[list-item]
    assert "<script" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def tags(markup: str) -> Counter[str]:
    """Count the elements of a page as a parser of HTML sees them."""
    found: Counter[str] = Counter()
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.update([tag])  # type: ignore[method-assign]
    parser.feed(markup)
    return found
