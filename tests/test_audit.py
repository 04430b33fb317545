"""An audit reproduces an honest history and names the first lie of a dishonest one."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.driver import Aggregator
from fedledger.aggregator.duties import proposing
from fedledger.aggregator.round.outcome import Content, RoundOutcome
from fedledger.contracts.abi import Log
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import KEPT_STATES, running_chain
from fedledger.contracts.compile import VERSION, parts
from fedledger.contracts.ledger import client
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Offence, Settings
from fedledger.ledger_tools.audit import audit, execute
from fedledger.ledger_tools.audit.audit import MOST_AT_ONCE, AuditResult, _portions, audit_chain, audit_run
from fedledger.ledger_tools.audit.export import LEDGER_FILE, LedgerExport, export_ledger
from fedledger.ledger_tools.audit.replay import Replay
from fedledger.ledger_tools.deploy import deploy
from fedledger.ledger_tools.report.task_view import exported_history
from fedledger.node.participant import Participant
from fedledger.platform.experiment.accounts import AGGREGATOR, DEPLOYER, PUBLISHER, experiment_account, participant_role
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.checked_data import least_stake
from fedledger.platform.experiment.config import load_config
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ChainError, ConfigError
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.units import GWEI
from fedledger.storage.local import LocalStore
from support.quick import quick
from support.small import Small, run_small, write_config


def audited(folder: Path, task: int = 1) -> AuditResult:
    """Audit a run in one process, and in several, which must find the same."""
    result = audit_run(folder, task=task)
    assert audit_run(folder, task=task, jobs=3).document() == result.document()
    return result


def audited_chain(ledger: Ledger, store: LocalStore, task: int) -> AuditResult:
    """Audit a task on its chain likewise."""
    result = audit_chain(ledger, store, task)
    assert audit_chain(ledger, store, task, jobs=3).document() == result.document()
    return result


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return run_small(tmp_path_factory.mktemp("honest"), Chain())


@pytest.fixture
def copy(honest: Small, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest.folder, tmp_path / "run"))


def test_an_honest_history_is_reproduced(honest: Small) -> None:
    result = audited(honest.folder)
    assert result.reproduced and result.measured and result.rounds == 3 and result.first_divergence is None


@pytest.mark.parametrize(
    "environment",
    quick(
        1,
        [
            {"MKL_CBWR": "COMPATIBLE", "OPENBLAS_CORETYPE": "Nehalem", "OMP_NUM_THREADS": "2"},
            {"OMP_NUM_THREADS": "2"},
            {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX2 FMA3"},
        ],
        ["blas", "threads", "numpy"],
    ),
)
def test_audit_passes_in_another_process_under_other_arithmetic(honest: Small, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "fedledger.platform.cli.app", "audit", str(honest.folder), "--format", "json"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reproduced"] is True


def test_one_byte_of_a_stored_update_is_found(honest: Small, copy: Path) -> None:
    update = honest.run.task.rounds[2].participations[0].update
    assert update is not None
    path = next((copy / "store").rglob(update.cid))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    divergence = audited(copy).first_divergence
    assert divergence is not None and divergence.round == 2 and divergence.field.startswith("update of 0x")


def test_one_byte_of_the_exported_ledger_is_found(copy: Path) -> None:
    path = copy / LEDGER_FILE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    divergence = audited(copy).first_divergence
    assert divergence is not None and divergence.field == LEDGER_FILE


@pytest.mark.parametrize("part", ["raw", "status", "logs", "header", "dropped"])
def test_a_forged_export_with_a_right_digest_is_found(copy: Path, part: str) -> None:
    export = LedgerExport.read(copy / LEDGER_FILE)
    block = next(b for b in reversed(export.blocks) if b.transactions and b.transactions[0].logs)
    transaction = block.transactions[0]
    if part == "raw":
        raw = bytearray.fromhex(transaction.raw[2:])
        raw[len(raw) // 2] ^= 1
        forged = replace(transaction, raw="0x" + raw.hex())
    elif part == "status":
        forged = replace(transaction, status=0)
    elif part == "logs":
        forged = replace(
            transaction, logs=[[a, t, d[:-1] + ("0" if d[-1] != "0" else "1")] for a, t, d in transaction.logs]
        )
    else:
        forged = transaction
    block.transactions[0] = forged
    if part == "dropped":
        block.transactions.clear()
    if part == "header":
        # One bit of an early block's state root, which nothing here depends on.
        header = bytearray.fromhex(export.blocks[3].header[2:])
        header[100] ^= 1
        export.blocks[3] = replace(export.blocks[3], header="0x" + header.hex())
    export.write(copy / LEDGER_FILE)
    result = audited(copy)
    assert not result.reproduced and result.first_divergence is not None
    expected = {"raw": "transactionsRoot", "header": "parentHash", "dropped": "transactionsRoot"}
    assert expected.get(part, part) in result.first_divergence.field


def _one_more(word: str) -> str:
    """Return a word of the ledger whose first participant has one more."""
    return hex(int(word, 16) + 1)


def test_credits_that_do_not_follow_from_the_history_are_found(copy: Path) -> None:
    export = LedgerExport.read(copy / LEDGER_FILE)
    credits = export.state["credits"]["1"]
    credits["0"] = _one_more(credits["0"])
    export.write(copy / LEDGER_FILE)
    divergence = audited(copy).first_divergence
    assert divergence is not None and divergence.field == "credits of task 1, slot 0, on the chain"


def test_evidence_that_does_not_follow_from_the_history_is_found(copy: Path) -> None:
    export = LedgerExport.read(copy / LEDGER_FILE)
    (words,) = export.state["evidence"].values()
    words["0"] = _one_more(words["0"])
    export.write(copy / LEDGER_FILE)
    divergence = audited(copy).first_divergence
    assert divergence is not None and divergence.field.startswith(("reputation of 0x", "evidence of 0x"))


@pytest.mark.parametrize("participant", [0, 3])
def test_credits_of_a_ledger_that_are_not_what_was_settled_are_found(
    honest: Small, monkeypatch: pytest.MonkeyPatch, participant: int
) -> None:
    """A ledger that says of itself, in its logs and in its state, that somebody has one unit more."""
    settle = History._on_RoundSettled

    def and_pay(history: History, log: Log, arguments: dict[str, Any]) -> None:
        settle(history, log, arguments)
        credits = history.tasks[1].credits
        credits[0] = credits.get(0, 0) + (1 << 32 * participant)

    monkeypatch.setattr(History, "_on_RoundSettled", and_pay)
    monkeypatch.setattr(audit, "chain_state", lambda ledger, known: _words(known))
    history = History(honest.run.ledger).update()
    store = LocalStore(honest.folder / "store")
    divergence = audited_chain(honest.run.ledger, store, 1).first_divergence
    assert divergence is not None and divergence.field == f"credit of {history.owners[participant]}"
    assert int(str(divergence.found)) == int(str(divergence.expected)) + 3


def test_what_was_withdrawn_is_no_credit_any_more(tmp_path: Path) -> None:
    small = run_small(tmp_path, Chain(), rounds=1)
    ledger, store = small.run.ledger, LocalStore(tmp_path / "store")
    account = experiment_account(0, PUBLISHER, ledger.chain)
    paid = next(i for i in small.run.task.enrolled if ledger.credit(1, i))
    ledger.withdraw_credit(account, 1, paid)
    assert ledger.credit(1, paid) == 0
    result = audited_chain(ledger, store, 1)
    assert result.reproduced, result.first_divergence


def test_evidence_of_a_ledger_that_is_not_what_verdicts_make_of_it_is_found(
    honest: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that says of itself that somebody has the evidence of one more accepted update."""
    settle = History._on_RoundSettled

    def and_flatter(history: History, log: Log, arguments: dict[str, Any]) -> None:
        settle(history, log, arguments)
        left = history.tasks[1].rounds[arguments["round"]].left
        left[2] = left[2].after(Verdict.ACCEPTED)

    monkeypatch.setattr(History, "_on_RoundSettled", and_flatter)
    monkeypatch.setattr(audit, "chain_state", lambda ledger, known: _words(known))
    history = History(honest.run.ledger).update()
    store = LocalStore(honest.folder / "store")
    divergence = audited_chain(honest.run.ledger, store, 1).first_divergence
    assert divergence is not None and divergence.field == f"evidence of {history.owners[2]}"
    assert divergence.round == 1


def _words(history: History) -> dict[str, Any]:
    """Return the state of a ledger that agrees with what its logs tell."""
    return {
        "evidence": {
            publisher: {str(slot): hex(word) for slot, word in words.items()}
            for publisher, words in history.evidence_words.items()
        },
        "credits": {
            str(task.id): {str(slot): hex(word) for slot, word in task.credits.items()}
            for task in history.tasks.values()
        },
    }


def _lie(outcome: RoundOutcome, kind: str) -> RoundOutcome:
    """Return what a lying aggregator makes of a round's outcome."""
    document = dict(outcome.document)
    if kind == "verdict":
        victim = min(i for i, verdict in outcome.verdicts.items() if verdict is Verdict.ACCEPTED)
        verdicts = {**outcome.verdicts, victim: Verdict.HELD_OUT}
        return replace(outcome, verdicts=verdicts, shares={i: s for i, s in outcome.shares.items() if i != victim})
    if kind == "pay":
        first, second = sorted(outcome.shares)[:2]
        shares = {**outcome.shares, first: outcome.shares[first] + 1, second: outcome.shares[second] - 1}
        return replace(outcome, shares=shares)
    if kind == "model":
        data = bytearray(outcome.model.data)
        data[-1] ^= 1
        return replace(outcome, model=Content.of(bytes(data)))
    measurements = json.loads(json.dumps(document["measurements"]))
    measurements["model"]["loss"] += 2_001
    document["measurements"] = measurements
    return replace(outcome, document=document, report=Content.of(canonical.encode(document)))


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("verdict", "verdict of 0x"),
        ("pay", "pay share of 0x"),
        ("model", "model"),
        ("measurement", "measurement of model"),
    ],
)
def test_a_lying_aggregator_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, field: str) -> None:
    real = proposing.round_outcome
    rounds = iter(range(1, 100))
    monkeypatch.setattr(proposing, "round_outcome", lambda *a: _lie(real(*a), kind) if next(rounds) == 2 else real(*a))
    small = run_small(tmp_path, Chain(), rounds=2)
    divergence = audited(small.folder).first_divergence
    assert divergence is not None and divergence.round == 2 and divergence.field.startswith(field)
    assert divergence.expected != divergence.found


def test_a_planted_reputation_is_found(tmp_path: Path) -> None:
    with running_chain("anvil") as process:
        chain = Chain(process.url)
        small = run_small(tmp_path, chain, rounds=2)
        store = LocalStore(small.folder / "store")
        assert audited_chain(small.run.ledger, store, 1).reproduced
        ledger, publisher = small.run.ledger, small.run.task.publisher
        word = ledger.evidence_word(publisher, 0)
        slot = _slot_of(chain, ledger.address, word)
        planted = word ^ 0xFFF
        word_bytes = "0x" + planted.to_bytes(32, "big").hex()
        chain.connection.ask("anvil_setStorageAt", [ledger.address, hex(slot), word_bytes])
        divergence = audited_chain(ledger, store, 1).first_divergence
        assert divergence is not None and divergence.field.startswith("reputation of 0x")


def test_a_chain_that_has_forgotten_its_beginning_is_exported(tmp_path: Path) -> None:
    with running_chain("anvil") as process:
        chain = Chain(process.url)
        run = run_small(tmp_path, chain, rounds=1).run
        chain.connection.ask("anvil_mine", [hex(2 * KEPT_STATES)])
        with pytest.raises(ChainError):
            chain.balance(chain.connection.ask("eth_accounts", [])[0], 0)
        export_ledger(run.ledger, run.deployment, run.history).write(tmp_path / LEDGER_FILE)
        with pytest.raises(ConfigError, match="does not know any more"):
            export_ledger(run.ledger, replace(run.deployment, genesis={}), run.history)
    assert audited(tmp_path).reproduced


def _slot_of(chain: Chain, address: str, word: int) -> int:
    """Find the storage slot that holds a word, by what the settling transaction wrote."""
    for number in range(chain.block_number(), 0, -1):
        for digest in chain.block(number)["transactions"]:
            traced = chain.connection.ask(
                "debug_traceTransaction",
                ["0x" + bytes(digest).hex(), {"tracer": "prestateTracer", "tracerConfig": {"diffMode": True}}],
            )
            storage = traced["post"].get(address.lower(), {}).get("storage", {})
            for slot, value in storage.items():
                if int(value, 16) == word:
                    return int(slot, 16)
    raise AssertionError("the word was never written")


@pytest.mark.parametrize("part", range(len(parts())))
def test_another_contract_is_found(honest: Small, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    known = parts()[part]
    # The last byte of the code that deploys it stands for any other.
    other = replace(known, bytecode=known.bytecode[:-2] + "ff", deployed_bytecode=known.deployed_bytecode[:-2] + "ff")
    replaced = (*parts()[:part], other, *parts()[part + 1 :])
    monkeypatch.setattr(execute, "parts", lambda version: replaced)
    divergence = audited(honest.folder).first_divergence
    assert divergence is not None and divergence.field == f"contract {known.name}"
    store = LocalStore(honest.folder / "store")
    assert audited_chain(honest.run.ledger, store, 1).reproduced
    monkeypatch.setattr(client, "parts", lambda version: replaced if version == VERSION else parts(version))
    divergence = audited_chain(honest.run.ledger, store, 1).first_divergence
    assert divergence is not None and divergence.field == "contract"


def test_a_ledger_that_never_was_deployed_is_found(copy: Path) -> None:
    export = LedgerExport.read(copy / LEDGER_FILE)
    replace(export, address="0x" + "11" * 20).write(copy / LEDGER_FILE)
    divergence = audited(copy).first_divergence
    assert divergence is not None and divergence.field == "contract" and divergence.found is None


def test_two_tasks_of_one_publisher_are_reproduced_though_their_settlements_alternate(tmp_path: Path) -> None:
    experiment = make_experiment(load_config(write_config(tmp_path, rounds=2)), tmp_path)
    chain, store = Chain(), LocalStore(tmp_path / "store")
    publisher, aggregator, deployer = (experiment_account(0, r, chain) for r in (PUBLISHER, AGGREGATOR, DEPLOYER))
    for account in (publisher, aggregator, deployer):
        chain.fund(account.address, 10**20)
    ledger, deployment = deploy(chain, deployer, Settings(least_stake(experiment.config) * GWEI, 0))
    history = History(ledger)
    tasks = [ledger.post_task(publisher, experiment.task_params(experiment.publish(store))) for _ in range(2)]
    people = []
    for number, task in itertools.product(range(4), tasks):
        account = experiment_account(0, participant_role(number), chain)
        chain.fund(account.address, 10**20)
        access = TaskAccess(ledger, history, account, store, task, experiment.spec)
        people.append(Participant(access, tmp_path / "journal" / account.address, experiment.trainer(number)))
    aggregators = [
        Aggregator(TaskAccess(ledger, history, aggregator, store, task, experiment.spec), experiment.measurer())
        for task in tasks
    ]
    while not all(history.update().task(task).finished for task in tasks):
        for program in (*aggregators, *people):
            program.step()
    first, second, *rest = (applied.task.id for applied in history.applied if applied.task is not None)
    assert first != second and rest == [first, second]
    export_ledger(ledger, deployment, history).write(tmp_path / LEDGER_FILE)
    for task in tasks:
        result = audited(tmp_path, task=task)
        assert result.reproduced, result.first_divergence
    # Each settlement began with what the one before had left, whichever task's it was.
    assert history.task(second).rounds[1].left[0].positive > history.task(first).rounds[1].left[0].positive


@pytest.mark.parametrize(("change", "field"), [({"rounds": 4}, "spec.rounds"), ({"randomness": 1}, "spec.randomness")])
def test_a_task_that_is_posted_unlike_its_spec_is_found(tmp_path: Path, change: dict[str, int], field: str) -> None:
    experiment = make_experiment(load_config(write_config(tmp_path)), tmp_path)
    chain, store = Chain(), LocalStore(tmp_path / "store")
    publisher = experiment_account(0, PUBLISHER, chain)
    chain.fund(publisher.address, 10**20)
    ledger, _ = deploy(chain, publisher, Settings(1, 0))
    params = experiment.task_params(experiment.publish(store))
    ledger.post_task(publisher, params)
    ledger.post_task(publisher, replace(params, **change))
    assert audited_chain(ledger, store, 1).reproduced
    divergence = audited_chain(ledger, store, 2).first_divergence
    assert divergence is not None and divergence.field == field


HISTORIES = sorted(path for path in (Path(__file__).parent / "histories").iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", HISTORIES, ids=lambda folder: folder.name)
def test_a_recorded_history_audits_for_ever(folder: Path) -> None:
    result = audited(folder)
    assert result.reproduced, result.first_divergence
    assert result.measured and not result.sealed
    assert result.rounds == json.loads((folder / "run.json").read_text())["rounds"]


@pytest.mark.parametrize(("name", "times"), [("v5-refusals", 5), ("v5-work", 3)])
def test_what_a_recorded_history_cost_follows_from_its_verdicts(name: str, times: int) -> None:
    folder = next(path for path in HISTORIES if path.name == name)
    task = exported_history(folder).task(1)
    expected = []
    for current in task.settled:
        for participant, verdict in current.verdicts.items():
            cost = task.params.penalties.cost(verdict, current.left[participant])
            expected += [(current.index, participant, Offence.REPEATED_REFUSAL, cost)] if cost else []
    assert [(s.round, s.participant, s.offence, s.amount) for s in task.slashes] == expected
    assert len(expected) == times and len({participant for _, participant, _, _ in expected}) == 1


def test_a_report_that_is_missing_is_named(honest: Small, copy: Path) -> None:
    proposal = honest.run.task.rounds[1].proposal
    assert proposal is not None
    next((copy / "store").rglob(proposal.report.cid)).unlink()
    divergence = audited(copy).first_divergence
    assert divergence is not None and (divergence.round, divergence.field) == (1, "report")


def test_history_from_logs_equals_the_chains_own_state(honest: Small) -> None:
    ledger, task = honest.run.ledger, honest.run.task
    history = History(ledger).update()
    for participant in task.enrolled:
        assert history.evidence(task.publisher, participant) == ledger.evidence(task.publisher, participant)
        assert history.task(1).credit(participant) == ledger.credit(1, participant)
    record = ledger.task(1)
    assert record.spent_units == sum(task.earned(i) for i in task.enrolled) and record.finished
    assert task.model == ContentRef.of((honest.folder / "model.safetensors").read_bytes())


class TestInSeveralProcesses:
    """What replays rounds ahead may fail in any way: the audit does then what it would have done alone."""

    def test_a_process_that_is_killed_costs_nothing(self, honest: Small, monkeypatch: pytest.MonkeyPatch) -> None:
        here, replay = os.getpid(), audit.replay_round

        def die(*given: Any) -> Replay:
            if os.getpid() != here and given[1].index == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return replay(*given)

        monkeypatch.setattr(audit, "replay_round", die)
        assert audited(honest.folder).rounds == 3

    def test_an_error_is_the_same_one(self, honest: Small, monkeypatch: pytest.MonkeyPatch) -> None:
        replay = audit.replay_round

        def fail(*given: Any) -> Replay:
            if given[1].index == 2:
                raise ConfigError("Round 2 has a method that nobody knows.")
            return replay(*given)

        monkeypatch.setattr(audit, "replay_round", fail)
        for jobs in (1, 3):
            with pytest.raises(ConfigError, match="Round 2 has a method"):
                audit_run(honest.folder, jobs=jobs)

    def test_rounds_are_replayed_by_others(self, honest: Small, monkeypatch: pytest.MonkeyPatch) -> None:
        here, replay = os.getpid(), audit.replay_round

        def elsewhere(*given: Any) -> Replay:
            assert os.getpid() != here
            return replay(*given)

        monkeypatch.setattr(audit, "replay_round", elsewhere)
        assert audit_run(honest.folder, jobs=2).rounds == 3
        with pytest.raises(AssertionError):
            audit_run(honest.folder)

    def test_what_an_export_says_is_not_believed_though_its_rounds_are_replayed(
        self, copy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A forged export whose logs are all consistent: only their execution tells."""
        export = LedgerExport.read(copy / LEDGER_FILE)
        forged = next(b for b in reversed(export.blocks) if b.transactions and b.transactions[0].logs)
        forged.transactions[0] = replace(forged.transactions[0], logs=forged.transactions[0].logs * 2)
        export.write(copy / LEDGER_FILE)
        divergence = audited(copy).first_divergence
        assert divergence is not None and divergence.field.endswith("logs")

    def test_nobody_waits_for_rounds_of_a_forged_ledger(self, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        export = LedgerExport.read(copy / LEDGER_FILE)
        forged = next(b for b in reversed(export.blocks) if b.transactions)
        forged.transactions[0] = replace(forged.transactions[0], status=0)
        export.write(copy / LEDGER_FILE)
        monkeypatch.setattr(audit, "replay_round", lambda *given: time.sleep(600))
        began = time.monotonic()
        divergence = audit_run(copy, jobs=2).first_divergence
        assert divergence is not None and divergence.field.endswith("status") and time.monotonic() - began < 300


@given(st.integers(0, 300), st.integers(2, 9))
def test_portions_are_all_rounds_in_order_and_the_last_ones_that_are_begun_are_single(rounds: int, jobs: int) -> None:
    indices = list(range(1, rounds + 1))
    portions = _portions(indices, jobs)
    assert [index for portion in portions for index in portion] == indices
    sizes = [len(portion) for portion in portions]
    assert all(1 <= size <= MOST_AT_ONCE for size in sizes)
    # They shrink from both ends to where the processes meet.
    middle = len(sizes) // 2
    assert sizes[:middle] == sorted(sizes[:middle], reverse=True) and sizes[middle + 1 :] == sorted(sizes[middle + 1 :])
    assert not sizes or sizes[middle] == 1
