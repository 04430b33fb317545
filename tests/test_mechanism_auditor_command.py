"""``fedledger incentives audit``: one JSON document, exit code 6 for a broken promise, mechanisms of one's own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fedledger.aggregator.mechanisms.base import MECHANISMS
from fedledger.platform.incentives.auditor.audits import PROPERTIES, Audit, Plan, audit, audit_here
from fedledger.platform.incentives.auditor.subjects import Subject
from fedledger.platform.incentives.auditor.tables import COMMAND, cell, table_cells
from fedledger.protocol.errors import ExitCode
from support.command_line import Call, caller

BY_SETS = '''
"""Asks whoever comes first in a set."""

from dataclasses import dataclass
from typing import ClassVar

from fedledger.aggregator.mechanisms.base import MECHANISMS, MechanismBase, Terms


@MECHANISMS.register("by_sets@1")
@dataclass(frozen=True)
class BySets(MechanismBase):
    """Ask whoever comes first in a set, and pay it a unit."""

    chooses: ClassVar[bool] = True

    def select(self, market):
        return {next(iter({offer.address for offer in market.offers})): Terms(1)}

    def pay(self, market, terms, seen):
        paid = [address for address in terms if address in seen and seen[address].accepted]
        return {address: min(1, market.budget) for address in paid}
'''


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def test_a_broken_promise_ends_with_exit_code_6_and_an_example_in_json(call: Call) -> None:
    size = ("--instances", 8, "--players", 5, "--workers", 1, "--format", "json")
    code, out, _ = call("incentives", "audit", "contract:relaxed", *size)
    document = json.loads(out)
    assert code == ExitCode.NOT_REPRODUCED
    assert (document["mechanism"], document["holds"], document["setting"]) == ("contract:relaxed", False, "menu")
    rows = {row["property"]: row for row in document["properties"]}
    assert list(rows) == [each.name for each in PROPERTIES]
    assert all({"property", "holds", "worst", "counter_example"} <= row.keys() for row in rows.values())
    wrong = rows["incentive compatibility"]
    assert wrong["holds"] is False and wrong["worst"] > 5_000
    assert {"seed", "instance", "players", "honest", "deviation", "deviated"} <= wrong["counter_example"].keys()


def test_a_mechanism_of_one_s_own_file_is_audited_in_text(tmp_path: Path) -> None:
    module = tmp_path / "by_sets.py"
    module.write_text(BY_SETS)
    # In a process of its own: what a file registers stays registered.
    words = ["incentives", "audit", "by_sets", "--module", str(module), "--instances", "4", "--workers", "1"]
    binary = Path(sys.executable).parent / "fedledger"
    done = subprocess.run([binary, *words], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == ExitCode.NOT_REPRODUCED, done.stderr
    told = " ".join(done.stdout.split())
    assert "by_sets@1 promises replay, which does not hold." in told
    assert "sets and hashes are ordered otherwise" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("nobody",), "There is no mechanism"),
        (("vcg", "--params", "{"), "not JSON"),
        (("vcg", "--params", "[]"), "no JSON object"),
        (("vcg", "--params", '{"winers": 1}'), "winners"),
        (("vcg", "--setting", "auction"), "There is no setting"),
        (("vcg", "--given", '{"budget": 3}'), "takes no budget"),
        (("vcg", "--report", "cost=3"), "no bounds"),
        (("vcg", "--report", "cost=3..3"), "no bounds"),
        (("--params", '{"winners": 1}'), "for one mechanism"),
        (("contract:cheap",), "There is no menu"),
        (("vcg", "--module", "there-is-none.py"), "no file"),
        (("vcg", "--document", "there-is-none.md"), "cannot be read"),
    ],
)
def test_what_cannot_be_audited_is_told(call: Call, given: tuple[str, ...], told: str) -> None:
    code, out, err = call("incentives", "audit", *given)
    assert (code, out) == (ExitCode.CONFIG, "")
    assert told in " ".join(err.split())


def test_processes_find_what_one_alone_finds() -> None:
    plan = Plan(Subject("vcg@1", {"winners": 2}), seed=3, instances=9, players=6)
    (apart,) = audit([plan], 2, lambda *_: None)
    assert apart == audit_here(plan)


def test_a_cell_says_what_is_promised_and_what_holds() -> None:
    audits = [audit_here(Plan(Subject(key), instances=6, players=6)) for key in ("proportional@1", "contract:tight")]
    first, second = table_cells(audits)
    assert first["individual rationality"].startswith("no: -") and first["budget"] == "**holds**"
    assert first["incentive compatibility"] == "—" and first["fairness"] == "holds"
    assert re.fullmatch(r"\*\*BROKEN\*\*: [0-9,.]+", second["incentive compatibility"])
    untested = [finding for finding in audits[0].findings if finding.holds is None]
    assert {cell(finding) for finding in untested} == {"—"}


def documented(root: Path) -> list[list[str]]:
    """The table of the document, a list of cells a line."""
    text = (root / "docs" / "mechanism-audits.md").read_text()
    table = re.search(rf"<!-- {COMMAND} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def test_the_document_has_every_mechanism_and_no_broken_promise(root: Path) -> None:
    head, _, *rows = documented(root)
    assert head == ["mechanism", "setting", *(each.name for each in PROPERTIES)]
    assert [row[0].strip("`") for row in rows] == list(MECHANISMS), f"run `{COMMAND} --document` again"
    for row in rows:
        mechanism = Subject(row[0].strip("`")).make()
        told = {each.name for each, text in zip(PROPERTIES, row[2:], strict=True) if text == "**holds**"}
        assert told == {each.name for each in PROPERTIES if each.promised_by(mechanism)}


@pytest.mark.long
def test_the_document_s_table_is_what_the_command_prints(root: Path, call: Call) -> None:
    code, out, _ = call("incentives", "audit", "--format", "markdown")
    assert code == 0
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines()] == documented(root)


def test_an_audit_with_nothing_broken_holds() -> None:
    made: Audit = audit_here(Plan(Subject("vcg@1"), instances=3, players=7))
    assert made.document()["holds"] is True and not made.broken
