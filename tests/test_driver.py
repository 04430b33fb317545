"""The aggregator's driver: what it does next follows from the ledger alone, whatever happens in between."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from fedledger.aggregator.driver import Aggregator
from fedledger.contracts.abi import RevertedError, functions
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.contracts.chain.records import Transaction, load_account
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Settings, TaskRecord
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.deploy import deploy
from fedledger.platform.experiment.accounts import AGGREGATOR, PUBLISHER, experiment_account, participant_role
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.protocol.errors import ChainError
from fedledger.storage.local import LocalStore
from support.quick import quick
from support.small import Small, run_small, write_config


def test_who_enrols_while_the_aggregator_looks_is_selected_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last participant enrols between the aggregator's reading of logs and its question how many there are."""
    experiment = make_experiment(load_config(write_config(tmp_path, rounds=1)), tmp_path)
    chain, store = Chain(), LocalStore(tmp_path / "store")
    publisher, account = (experiment_account(0, role, chain) for role in (PUBLISHER, AGGREGATOR))
    people = [experiment_account(0, participant_role(number), chain) for number in range(4)]
    for each in (publisher, account, *people):
        chain.fund(each.address, 10**20)
    ledger, _ = deploy(chain, publisher, Settings(1, 0))
    task = ledger.post_task(publisher, experiment.task_params(experiment.publish(store)))
    for person in people:
        ledger.register(person, person.address, person.address, 10**15)
    for person in people[:3]:
        ledger.enrol(person, task)
    history = History(ledger)
    access = TaskAccess(ledger, history, account, store, task, experiment.spec)
    aggregator = Aggregator(access, experiment.measurer())
    assert aggregator.step().action is Action.WAITED
    ask = ledger.task

    def late(number: int) -> TaskRecord:
        monkeypatch.setattr(ledger, "task", ask)
        ledger.enrol(people[3], number)
        return ask(number)

    monkeypatch.setattr(ledger, "task", late)
    actions = [aggregator.step().action, aggregator.step().action]
    assert actions == [Action.WAITED, Action.OPENED]
    assert sorted(history.update().task(task).rounds[1].selected) == [0, 1, 2, 3]


def _transactions(small: Small, event: str) -> dict[int, bytes]:
    return {log.arguments["round"]: log.transaction for log in small.run.ledger.events([event])}


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return run_small(tmp_path_factory.mktemp("everybody"), Chain())


def test_a_round_for_everybody_names_nobody(everybody: Small) -> None:
    opened = [log.arguments for log in everybody.run.ledger.events(["RoundOpened"])]
    assert [(a["wordIndices"], a["words"]) for a in opened] == [([], [])] * 3
    assert [r.selected for r in everybody.run.task.settled] == [(0, 1, 2, 3)] * 3


def test_a_sample_is_named(tmp_path: Path) -> None:
    extra = 'selection = { method = "uniform@1", params = { count = 2 } }'
    small = run_small(tmp_path, Chain(), rounds=2, extra=extra)
    opened = [log.arguments["words"] for log in small.run.ledger.events(["RoundOpened"])]
    assert [word.bit_count() for (word,) in opened] == [2, 2]
    assert audit_run(small.folder).reproduced


def test_a_settlement_shares_a_transaction_with_the_next_opening(everybody: Small) -> None:
    settled, opened = (_transactions(everybody, event) for event in ("RoundSettled", "RoundOpened"))
    assert [settled[1], settled[2]] == [opened[2], opened[3]]
    assert settled[3] not in opened.values(), "there is no fourth round"


@pytest.mark.parametrize("window", quick(1, [1, 0]))
def test_rounds_settle_together_as_late_as_they_may(tmp_path: Path, window: int) -> None:
    extra = f"[ledger]\nmax_unfinal = 3\nchallenge_window = {window}\npropose_period = 10000"
    small = run_small(tmp_path, Chain(), rounds=7, extra=extra)
    settled, opened = (_transactions(small, event) for event in ("RoundSettled", "RoundOpened"))
    shared = [{i for i in settled if settled[i] == transaction} for transaction in dict.fromkeys(settled.values())]
    assert sorted(set().union(*shared)) == [1, 2, 3, 4, 5, 6, 7]
    # With a window it depends on the clock how many are ready together.
    if window == 0:
        assert shared == [{1, 2, 3}, {4, 5, 6}, {7}]
    assert settled[1] == opened[4], "the fourth round has to wait for the first"
    assert audit_run(small.folder).reproduced


def test_a_settlement_does_not_wait_until_somebody_else_earns_by_it(tmp_path: Path) -> None:
    extra = "[ledger]\nmax_unfinal = 3\npropose_period = 1"
    small = run_small(tmp_path, Chain(), rounds=3, extra=extra)
    assert len(set(_transactions(small, "RoundSettled").values())) > 1


@pytest.mark.parametrize(
    ("terms", "remedy"),
    [
        ("challenge_window = 100\nexit_delay = 5", "an exit_delay of 4[0-9]+ s or more"),
        ("challenge_window = 100\nbond_gwei = 1", "twice a juror_penalty for each seat"),
    ],
)
def test_a_task_that_the_ledger_refuses_is_told_what_to_change(tmp_path: Path, terms: str, remedy: str) -> None:
    with pytest.raises(RevertedError, match=remedy):
        run_small(tmp_path, Chain(), extra="[ledger]\n" + terms)


def test_without_room_for_both_a_settlement_has_its_own(
    tmp_path: Path, everybody: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chain, "would_succeed", lambda *_: False)
    small = run_small(tmp_path, Chain())
    settled, opened = (_transactions(small, event) for event in ("RoundSettled", "RoundOpened"))
    assert len({*settled.values(), *opened.values()}) == 6
    assert small.summary["final_model"] == everybody.summary["final_model"]
    assert small.summary["participants"] == everybody.summary["participants"]


def test_a_round_that_stops_opens_no_other(tmp_path: Path) -> None:
    small = run_small(tmp_path, Chain(), extra="stopping = { target_correct = 1 }")
    assert sorted(small.run.task.rounds) == [1] and small.run.task.settled[0].settled


def test_a_beacon_is_read_after_the_settlement_that_advances_it(tmp_path: Path) -> None:
    extra = 'randomness = "beacon"\nselection = { method = "uniform@1", params = { count = 2 } }'
    small = run_small(tmp_path, Chain(), rounds=2, extra=extra)
    settled, opened = (_transactions(small, event) for event in ("RoundSettled", "RoundOpened"))
    assert settled[1] != opened[2]
    assert audit_run(small.folder).reproduced


@pytest.mark.parametrize("kind", ["embedded", "anvil", "ganache"])
def test_a_chain_says_what_would_succeed_and_refuses_who_cannot_pay(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with nullcontext() if kind == "embedded" else running_chain(kind) as process:  # type: ignore[arg-type]
        chain = Chain(process.url if process else kind)
        publisher = experiment_account(0, PUBLISHER, chain)
        chain.fund(publisher.address, 10**19)
        ledger, _ = deploy(chain, publisher, Settings(1, 0))
        announce, finish = functions()["announce"].encode(["x"]), functions()["finishTask"].encode([1])
        assert chain.would_succeed(publisher, ledger.address, announce)
        assert not chain.would_succeed(publisher, ledger.address, finish), "there is no task"
        monkeypatch.setattr("fedledger.contracts.chain.chain.MAX_GAS", 22_000)
        assert not chain.would_succeed(publisher, ledger.address, announce), "too little gas"
        with pytest.raises(ChainError, match="refused a payment"):
            chain.send(Transaction(load_account(b"\x09" * 32), publisher.address, value=1), "a payment")
