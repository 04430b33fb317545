"""Audits, tables and pages tell of spot checks; audits name an auditor that passes what it has not made again."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fedledger.aggregator.reputation.beta import Beta
from fedledger.aggregator.reputation.standings import Fold
from fedledger.aggregator.reputation.subjective_logic import SubjectiveLogic
from fedledger.contracts.ledger.records import Offence
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.audit import audit_chain, audit_run
from fedledger.ledger_tools.audit.check_view import told_open
from fedledger.ledger_tools.audit.checks import audit_checks
from fedledger.ledger_tools.audit.divergence import DivergenceError
from fedledger.ledger_tools.audit.export import LEDGER_FILE, LedgerExport
from fedledger.ledger_tools.report.own_account import OwnAccount
from fedledger.ledger_tools.report.tables import task_cells, task_status_rows
from fedledger.ledger_tools.report.task_view import read_export
from fedledger.node.own_examples import asked_by_checks
from fedledger.platform.experiment.accounts import PUBLISHER, experiment_account, experiment_auditor
from fedledger.platform.experiment.task_price import TaskPrice
from fedledger.protocol.errors import ExitCode
from fedledger.protocol.records.reputation import PPM, Evidence
from fedledger.protocol.records.spot_checks import Auditor
from fedledger.protocol.units import GWEI, in_gwei, shown_time
from support.checked import PENALTY, PERIOD, Checked, post_checked
from support.command_line import caller

TRUE, FALSE = b"t" * 32, b"f" * 32


@dataclass
class Played:
    """A task that has ended, and what its status was on the way."""

    world: Checked
    statuses: list[dict[str, Any]] = field(default_factory=list)

    def look(self) -> None:
        """Remember the status."""
        (row,) = task_status_rows(self.world.ledger)
        self.statuses.append(row)

    def play(self) -> None:
        """Play a round in which checks come to nothing, and one in which they are decided, each as it may be."""
        w = self.world
        self.look()
        w.propose(1)
        w.summon(1, [0, 1])
        for participant in (0, 1):
            w.answer(1, participant, TRUE)
        w.find(1, {0: TRUE})
        w.pass_time(5, 1)
        w.propose(2)
        w.summon(2, [0, 1, 2, 3])
        for participant in (0, 1, 3):
            w.answer(2, participant, TRUE)
        self.look()
        w.find(2, {}, [0, 1, 3])
        for participant in (0, 3):
            w.answer(2, participant, TRUE, appeals=True)
        self.look()
        w.find(2, {0: TRUE}, [3])
        w.pass_time(5, 2)
        self.look()
        w.end(2, [0, 1, 2, 3])
        w.play(lambda: w.task.finished)
        self.look()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    found = Played(post_checked(tmp_path_factory.mktemp("checked"), rounds=2))
    found.play()
    found.world.export()
    return found


@pytest.fixture(scope="module")
def checked(played: Played) -> Checked:
    return played.world


@pytest.fixture
def copy(checked: Checked, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checked.folder, tmp_path / "run"))


def test_a_history_with_every_kind_of_check_is_reproduced(checked: Checked) -> None:
    task = checked.task
    slashed = [(s.round, s.participant, s.amount) for s in task.slashes if s.offence is Offence.FAILED_CHECK]
    assert slashed == [(2, participant, PENALTY) for participant in (1, 2, 3)]
    for result in (audit_run(checked.folder), audit_chain(checked.ledger, checked.store, checked.number)):
        assert result.reproduced, result.first_divergence
        assert result.checks == {"checks": 6, "passed": 3, "failed": 3, "cost": str(3 * PENALTY)}
        missed, silent = (note for note in result.notes if "spot checks" in note)
        assert missed.startswith("Of 8 updates that were drawn for spot checks, 2 were not checked, in rounds 1:")
        assert silent.startswith("1 of 6 spot checks passed without a finding")


@pytest.mark.parametrize(("participant", "positive"), [(0, True), (1, False), (2, False), (3, False)])
def test_what_failed_checks_make_of_evidence_is_followed(checked: Checked, participant: int, positive: bool) -> None:
    """The audit of the history compared it after each change; here, that there was one."""
    evidence = checked.history.evidence(checked.task.publisher, participant)
    assert evidence == checked.ledger.evidence(checked.task.publisher, participant)
    assert (evidence.positive > 0, evidence.negative > 0) == (positive, not positive)


def test_an_auditor_that_did_not_make_an_update_again_is_found(tmp_path: Path) -> None:
    w = post_checked(tmp_path, participants=2)
    w.propose(1)
    w.summon(1, [0, 1])
    for participant in (0, 1):
        w.answer(1, participant, TRUE)
    w.find(1, {0: TRUE, 1: FALSE})
    w.play(lambda: w.task.finished)
    lazy = w.auditors[w.check(1, 1).auditor].address
    for result in (audit_run(w.export()), audit_chain(w.ledger, w.store, w.number)):
        divergence = result.first_divergence
        assert divergence is not None and divergence.round == 1 and divergence.found == FALSE.hex()
        assert lazy in divergence.field and w.history.owners[1] in divergence.field


def _no_transcript(task: TaskHistory) -> None:
    task.rounds[1].checks[0].transcript = None


def _other_seed(task: TaskHistory) -> None:
    task.rounds[2].check_seed = bytes(32)


def _rarer(task: TaskHistory) -> None:
    task.params = replace(task.params, check_rate=1)


@pytest.mark.parametrize(
    ("lie", "index", "field"),
    [
        (_no_transcript, 1, "transcript of auditor 0x"),
        (_other_seed, 2, "seed of the spot checks"),
        (_rarer, 1, "spot check of 0x"),
    ],
)
def test_what_does_not_follow_is_named(
    checked: Checked, lie: Callable[[TaskHistory], None], index: int, field: str
) -> None:
    """Lies that a ledger refuses, or would have to tell in its logs."""
    history, clock = read_export(checked.folder)
    task, terms = history.task(1), checked.aggregator.access.spec.spot_checks
    audit_checks(history, task, terms, clock)
    lie(task)
    with pytest.raises(DivergenceError) as found:
        audit_checks(history, task, terms, clock)
    assert found.value.divergence.round == index and found.value.divergence.field.startswith(field)


def test_another_seed_in_an_export_is_found(checked: Checked, copy: Path) -> None:
    export, seed = LedgerExport.read(copy / LEDGER_FILE), checked.task.rounds[1].check_seed
    assert seed is not None
    (told,) = [log for b in export.blocks for t in b.transactions for log in t.logs if seed.hex() in log[2]]
    told[2] = told[2].replace(seed.hex(), "00" * 32)
    export.write(copy / LEDGER_FILE)
    divergence = audit_run(copy).first_divergence
    assert divergence is not None and divergence.field.endswith("logs")


def test_a_check_that_stands_otherwise_on_the_chain_is_found(copy: Path) -> None:
    export = LedgerExport.read(copy / LEDGER_FILE)
    export.state["checks"]["1"]["2/1"] = "passed, auditor 0"
    export.write(copy / LEDGER_FILE)
    divergence = audit_run(copy).first_divergence
    assert divergence is not None and divergence.field == "check 2/1 of task 1 on the chain"


def test_auditors_that_are_not_those_of_the_spec_are_found(tmp_path: Path) -> None:
    w = post_checked(tmp_path)
    publisher = experiment_account(0, PUBLISHER, w.ledger.chain)
    params = w.task.params
    w.ledger.post_task(publisher, replace(params, auditors=bytes(31) + b"1"))
    w.ledger.post_task(publisher, replace(params, auditor_count=3))
    for task, name in ((2, "spec.spot_checks"), (3, "number of auditors")):
        divergence = audit_chain(w.ledger, w.store, task).first_divergence
        assert divergence is not None and divergence.field == name


def test_the_status_says_what_open_checks_wait_for(played: Played) -> None:
    assert [task_cells(row)["checks"] for row in played.statuses] == [
        "none yet",
        "2 passed, 4 open",
        "2 passed, 4 open",
        "2 passed, 4 open",
        "3 passed, 3 failed",
    ]
    proposed = played.world.ledger.round(1, 2).proposed_at
    _, answered, appealed, decided, ended = (row["checks"] for row in played.statuses)
    assert (answered["rate"], answered["period"]) == (1_000_000, PERIOD)
    assert answered["states"] == {"passed": 1, "passed, as the auditor said nothing in time": 1} | {
        "answered": 3,
        "summoned": 1,
    }
    waits = [(check["waits"].split()[-1], (check["until"] - proposed) // PERIOD) for check in answered["open"]]
    assert waits == [("found", 3), ("found", 3), ("from", 2), ("found", 3)]
    waits = [(check["waits"].split()[-1], (check["until"] - proposed) // PERIOD) for check in appealed["open"]]
    assert waits == [("appeal", 5), ("participant", 4), ("from", 2), ("appeal", 5)]
    assert {check["waits"] for check in decided["open"]} == {"round 2 to be settled"}
    assert ended["open"] == []
    address = played.world.history.owners[1]
    assert told_open(appealed["open"][1]) == (
        f"The check of {address} in round 2 (failed, may be appealed against) waits for an appeal of its participant, "
        f"until {shown_time(proposed + 4 * PERIOD)} by the chain's time."
    )


def test_history_lists_checks(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call, w = caller(monkeypatch, capsys), played.world
    code, out, _ = call("history", w.folder, "--checks", "--format", "json")
    rows = json.loads(out)
    assert code == 0 and [(row["round"], row["outcome"]) for row in rows] == [
        *[(1, "passed")] * 2,
        *[(2, outcome) for outcome in ("passed", "failed", "failed", "failed")],
    ]
    assert [row["answered"] for row in rows] == [True, True, True, True, False, True]
    assert [int(row["cost"]) for row in rows] == [0, 0, 0, PENALTY, PENALTY, PENALTY]
    for row in rows:
        assert row["auditor_address"] == w.auditors[row["auditor"]].address
        assert bytes.fromhex(row["seed"]) == w.task.rounds[row["round"]].check_seed
    for format_ in ("csv", "parquet"):
        path = tmp_path / format_
        assert call("history", w.folder, "--checks", "--format", format_, "--output", path)[0] == 0
    table = pd.read_parquet(tmp_path / "parquet")
    assert list(table["address"]) == [row["address"] for row in rows]
    assert pd.read_csv(tmp_path / "csv", dtype=str)["cost"].tolist() == [row["cost"] for row in rows]
    code, out, _ = call("history", w.folder, "--checks", "--store-dir", tmp_path / "none")
    assert code == 0 and "said nothing" in out and "seed" not in out and f"{in_gwei(PENALTY)}" in out
    code, out, _ = call("history", w.folder, "--participants")
    assert code == 0 and f"{in_gwei(PENALTY)}" in " ".join(out.split())
    code, out, _ = call("audit", w.folder, "--jobs", 1)
    assert code == 0 and f"Spot checks: 6 (3 passed, 3 failed), which cost {in_gwei(3 * PENALTY)}" in out
    code, out, _ = call("history", w.folder, "--participants", "--format", "json")
    assert [row["checks"] for row in json.loads(out)] == [
        _own(w, address) for address in sorted(w.history.owners.values(), key=str.lower)
    ]
    assert call("history", w.folder, "--checks", "--refusals")[0] == ExitCode.CONFIG


def _own(w: Checked, address: str) -> dict[str, int]:
    """Return what came of a participant's checks: in the first round only two were named."""
    return ({"passed": 2}, {"passed": 1, "failed": 1}, {"failed": 1}, {"failed": 1})[w.history.ids[address]]


def test_a_store_without_the_spec_leaves_only_the_auditors_unnamed(
    checked: Checked, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "store")
    code, out, _ = caller(monkeypatch, capsys)("history", copy, "--checks", "--format", "json")
    assert code == 0 and {row["auditor_address"] for row in json.loads(out)} == {None}


def test_failed_checks_enter_the_standings_of_reputation_models(checked: Checked) -> None:
    """The model that keeps the ledger's evidence has the ledger's; another one loses all that it counted as good."""
    history, publisher = checked.history, checked.task.publisher
    place, whose = len(history.applied), frozenset({publisher})
    for participant, kept in Fold(SubjectiveLogic(), whose).at(history, place)[publisher].items():
        assert Evidence(*kept) == history.evidence(publisher, participant)
    counts = Fold(Beta(forgetting=1.0, loss=1), whose).at(history, place)[publisher]
    failed = {participant for participant in counts if counts[participant][1]}
    assert failed == {1, 2, 3} and all(counts[each] == (0, PPM) for each in failed)


def test_a_participant_is_told_of_its_checks(checked: Checked) -> None:
    own = OwnAccount.of(checked.history, checked.store, 1, checked.history.owners[1], checked.ledger)
    assert own is not None and "Spot checks of its updates: 1 passed, 1 failed." in own.lines()
    assert any("for failed check" in line for line in own.lines())


def test_whoever_takes_part_is_told_what_checks_ask(checked: Checked) -> None:
    spec, params = checked.aggregator.access.spec, checked.task.params
    told = asked_by_checks(spec, params)
    within, cost = f"within two check periods ({timedelta(seconds=2 * PERIOD)})", in_gwei(PENALTY)
    assert told is not None and "all of your examples" in told and within in told and cost in told
    (line,) = (line for line in TaskPrice(params, 1).lines() if line.startswith("Spot checks"))
    assert within in line and cost in line
    (line,) = (line for line in TaskPrice(replace(params, penalty=GWEI), 1).lines() if line.startswith("Deposits"))
    assert f"of which {in_gwei(PENALTY + GWEI)} are at risk a round" in line
    assert asked_by_checks(spec.model_copy(update={"spot_checks": None}), params) is None


@pytest.mark.parametrize(
    ("rounds", "bidding", "all_rounds"), [(6, None, 6), (6, 5, 8), (4, 5, 5), (5, 5, 7), (3, 2, 6)]
)
def test_bidding_rounds_take_time_and_gas_too(
    checked: Checked, rounds: int, bidding: int | None, all_rounds: int
) -> None:
    # Those with b ask for bids: b....b.., b...., b....b. and b.b.b.
    spec = checked.aggregator.access.spec.model_copy(update={"rounds": rounds, "bidding": bidding})
    price = TaskPrice.of(spec, replace(checked.task.params, rounds=rounds), 1)
    told = price.document()
    ends, enrolled = (datetime.fromisoformat(str(told[name])) for name in ("ends_at_latest", "enrolment_ends"))
    assert ends - enrolled == timedelta(seconds=all_rounds * price.round_seconds)
    assert told["bidding_rounds"] == all_rounds - rounds
    assert any("Bids take about" in line for line in price.lines()) == (bidding is not None)
    gas = told["aggregator_gas"]
    assert isinstance(gas, dict) and all(gas[each] == str(price.round_gas(int(each)) * all_rounds) for each in gas)


def test_an_auditor_s_key_is_one_line_that_a_configuration_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = caller(monkeypatch, capsys)("auditor", "key", "--experiment-seed", 0, "--auditor", 1)
    (line,) = out.splitlines()
    read = tomllib.loads(f"auditors = [{line}]")["auditors"]
    assert code == 0 and Auditor.model_validate(read[0]) == experiment_auditor(0, 1)
