"""Why updates were refused: in words that anybody understands, in every table, whatever a stranger's report says."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.detectors.base import Finding
from fedledger.aggregator.duties import proposing
from fedledger.aggregator.round.outcome import Content, RoundOutcome
from fedledger.aggregator.selection.candidates import _evaluated
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import EMBEDDED
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.report.refusals import Refusal, ReportedReasons
from fedledger.ledger_tools.report.tables import refusals_frame
from fedledger.ledger_tools.report.task_view import TaskView
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.results import write_results
from fedledger.protocol.encoding import canonical
from fedledger.protocol.records.report import ToldFinding
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.examples import examples
from support.pages import figures
from support.small import Small, write_config

# -- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (Finding("cumulative loss", 2.31, 2.0, 0.1), "cumulative loss 2.31 > 2"),
        (Finding("overlap", 1.0212, 1.1, 0.1), "overlap 1.02 < 1.1"),
        (Finding("lasting corroboration", -0.7, -0.3, 0.1), "lasting corroboration -0.7 < -0.3"),
        (Finding("nothing new", 0.0, 0.0, float("inf")), "nothing new"),
        (Finding("cumulative loss", 2.000004, 2.0, 0.1), "cumulative loss 2.000004 > 2"),
        (Finding("loss", 1e300, 2.0, 0.1), "loss 9.01e+09 > 2"),
        (Finding("loss", float("-inf"), 2.0, 0.1), "loss -9.01e+09 < 2"),
    ],
)
def test_a_finding_names_its_signal_and_how_far_it_is_from_what_is_allowed(finding: Finding, words: str) -> None:
    assert str(finding.told) == words
    assert ToldFinding.read(canonical.decode(canonical.encode(finding.told.document()))) == finding.told


@given(st.integers(-(2**53) + 1, 2**53 - 1), st.integers(-(2**53) + 1, 2**53 - 1))
def test_numbers_that_differ_look_different(value: int, threshold: int) -> None:
    words = str(ToldFinding("x", value, threshold)).split()
    assert words == ["x"] if value == threshold else len(words) == 4
    if value != threshold:
        assert words[1] != words[3] and words[2] == (">" if value > threshold else "<")


# -- hostile reports ---------------------------------------------------------------------------------------------

OWNER = "0x" + "a" * 40
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
MEASUREMENT = st.fixed_dictionaries({}, optional={"loss": ANYTHING, "correct": ANYTHING, "score": ANYTHING}) | ANYTHING
FINDING = st.fixed_dictionaries({}, optional={"signal": ANYTHING, "value": ANYTHING, "threshold": ANYTHING}) | ANYTHING
ROW = st.fixed_dictionaries(
    {"participant": st.just(OWNER) | ANYTHING},
    optional={"detail": ANYTHING, "claimed": ANYTHING, "finding": FINDING, "measurement": MEASUREMENT},
)
REPORT = (
    st.fixed_dictionaries(
        {},
        optional={
            "measurements": st.fixed_dictionaries({"base": MEASUREMENT}) | ANYTHING,
            "updates": st.lists(ROW | ANYTHING, max_size=3) | ANYTHING,
        },
    )
    | ANYTHING
)


@examples(300)
@given(REPORT)
def test_whatever_a_report_holds_tables_can_be_made(document: Any) -> None:
    reasons = ReportedReasons(document)
    made = reasons.refusal(3, OWNER, "harm")
    assert (made.round, made.address, made.reason) == (3, OWNER, "harm")
    assert isinstance(made.detail, str) and isinstance(reasons.told(OWNER), str)
    assert made.claimed is None or type(made.claimed) is int
    assert (made.signal is None) == (made.value is None) == (made.threshold is None)
    frame = refusals_frame([made, Refusal(4, OWNER, "late", "")])
    assert len(json.loads(frame.to_json(orient="records"))) == 2


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"updates":[[]]}', b"\xff", b'{"updates":7,"measurements":[]}'])
def test_a_report_that_is_none_says_nothing(tmp_path: Path, data: bytes) -> None:
    store = LocalStore(tmp_path)
    reasons = ReportedReasons.read(store, store.put(data))
    assert reasons.refusal(1, OWNER, "harm") == Refusal(1, OWNER, "harm", "")


def test_of_a_report_what_is_wrong_with_the_bytes_comes_first_and_then_what_the_verdict_rests_on() -> None:
    row = {"participant": OWNER, "detail": "", "claimed": 70, "measurement": {"loss": 310_000, "correct": 89}}
    document = {
        "measurements": {"base": {"loss": 300_000, "correct": 90}},
        "updates": [{**row, "finding": {"signal": "cumulative loss", "value": 2_310_000, "threshold": 2_000_000}}],
    }
    assert ReportedReasons(document).refusal(2, OWNER, "harm") == Refusal(
        round=2,
        address=OWNER,
        reason="harm",
        detail="cumulative loss 2.31 > 2; held-out loss 0.3000 to 0.3100, right answers 90 to 89",
        claimed=70,
        signal="cumulative loss",
        value=2.31,
        threshold=2.0,
    )
    broken = {"updates": [{"participant": OWNER, "detail": "12 bytes", "measurement": None}]}
    assert ReportedReasons(broken).refusal(2, OWNER, "malformed") == Refusal(2, OWNER, "malformed", "12 bytes")


# -- in a run ----------------------------------------------------------------------------------------------------

JUDGED = """
evidence = { method = "work@1" }
judgement = {}
[[attackers]]
attack = { method = "free_rider@1", params = { deviation = 0.0 } }
[[attackers]]
attack = { method = "sign_flip@1" }
"""
DETECTION = 'detection = [{ method = "no_work@1" }, { method = "harm@1" }]'


def judged(folder: Path) -> Experiment:
    path = write_config(folder, participants=8, rounds=4, extra=JUDGED)
    lines = [DETECTION if line.startswith("detection") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    return make_experiment(load_config(path), folder)


def ran(folder: Path) -> Small:
    experiment, store = judged(folder), LocalStore(folder / "store")
    finished = run(experiment, Chain(EMBEDDED), store, folder)
    return Small(folder, experiment, finished, write_results(finished, experiment, store, folder, []))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return ran(tmp_path_factory.mktemp("judged"))


def refusals(small: Small) -> list[Refusal]:
    return TaskView.of(small.run.history, 1).refusals(LocalStore(small.folder / "store"))


def test_each_statistical_refusal_says_what_it_rests_on_everywhere(finished: Small) -> None:
    found = refusals(finished)
    assert {refusal.reason for refusal in found} >= {"no_work"}
    for refusal in found:
        assert refusal.signal and refusal.detail.startswith(refusal.signal) and "held-out loss" in refusal.detail
        assert refusal.claimed is not None and refusal.claimed > 0
    table = pd.read_csv(finished.folder / "refusals.csv")
    assert table["signal"].tolist() == [refusal.signal for refusal in found]
    assert table["value"].tolist() == pytest.approx([refusal.value for refusal in found])
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    verdicts = next(figure for figure in figures(page) if figure[0].get("customdata"))
    shown = {why for row in verdicts[0]["customdata"] for why in row if why}
    assert shown
    assert all("held-out loss" in why for why in shown)
    assert audit_run(finished.folder).reproduced


def test_without_a_ledger_the_same_is_said(finished: Small) -> None:
    experiment = make_experiment(load_config(finished.folder / "config.toml"), finished.folder)
    played = list(play(MemoryRecord(experiment), Serial(experiment)))
    addresses = [experiment.address(number) for number in range(8)]
    said = {(closed.index, addresses[number], why) for closed in played for number, why in closed.details.items()}
    assert said == {(row.round, row.address, row.detail.split("; ")[0]) for row in refusals(finished)}
    assert all(closed.verdicts[number].refused for closed in played for number in closed.details)


def test_a_selection_by_utility_sees_no_claim(finished: Small) -> None:
    """What reports call examples is what counts: under this judgement as much for each."""
    proposal = finished.run.task.rounds[2].proposal
    assert proposal is not None
    raw = LocalStore(finished.folder / "store").get(proposal.report)
    rows = canonical.decode(raw)["updates"]
    claimed = {row["participant"]: row["claimed"] for row in rows}
    assert len(set(claimed.values())) > 1 and min(claimed.values()) > 1
    assert {examples for examples, _ in _evaluated(raw).values()} == {1}


def _history(finished: Small, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    from fedledger.platform.cli.app import app

    with pytest.raises(SystemExit) as ended:
        app(["history", str(finished.folder), *arguments])
    assert not ended.value.code
    return capsys.readouterr().out


def test_the_history_shows_refusals(finished: Small, capsys: pytest.CaptureFixture[str]) -> None:
    shown = partial(_history, finished, capsys)
    rows = json.loads(shown("--refusals", "--format", "json"))
    assert [row["signal"] for row in rows] == [refusal.signal for refusal in refusals(finished)]
    assert {type(row["claimed"]) for row in rows} == {int}
    assert shown("--refusals", "--format", "csv").startswith("round,address,reason,detail,claimed,signal,value")
    text = shown("--refusals")
    assert "no_work" in text and "…" not in text and "threshold" not in text
    assert {word for row in rows for word in row["detail"].split()} <= {*text.replace("│", " ").split()}


def test_participants_are_shown_as_a_run_shows_them(finished: Small, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(_history(finished, capsys, "--participants", "--format", "json"))
    told = [f"{count} {reason}" for row in rows for reason, count in row["refused"].items()]
    text = _history(finished, capsys, "--participants")
    assert told and all(words in text for words in told) and "{" not in text
    assert all(f" {row['reputation'] / 1e6:.3f} " in text and f" {row['credit']:,} " in text for row in rows)


@pytest.mark.parametrize("key", ["finding", "claimed"])
def test_who_lies_about_why_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    real = proposing.round_outcome
    lied_about: list[str] = []

    def lying(*given: Any) -> RoundOutcome:
        outcome = real(*given)
        document = json.loads(json.dumps(outcome.document))
        refused = [row for row in document["updates"] if row["verdict"] != Verdict.ACCEPTED.label]
        if not refused or lied_about:
            return outcome
        lied_about.append(refused[0]["participant"])
        refused[0][key] = None if key == "finding" else refused[0][key] + 1
        return replace(outcome, document=document, report=Content.of(canonical.encode(document)))

    monkeypatch.setattr(proposing, "round_outcome", lying)
    ran(tmp_path)
    found = audit_run(tmp_path).first_divergence
    assert found is not None and found.field == f"{key} of {lied_about[0]}"
