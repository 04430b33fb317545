"""The chain takes back what was read and sent: the client notices, and nothing is lost or runs twice."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from eth_account.signers.local import LocalAccount
from requests import ConnectionError

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.contracts.chain.records import Transaction, load_account
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Action, Situation
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import Phase, Settings
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.node.journal import UPDATE
from fedledger.node.participant import Participant
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.experiment.accounts import PUBLISHER, experiment_account, participant_role
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ChainError
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.model import ModelFile
from fedledger.storage.local import LocalStore
from support.small import TERMS, write_config

ELSEWHERE = "0x" + "11" * 20


@pytest.fixture
def chain() -> Iterator[Chain]:
    with running_chain("anvil") as process:
        yield Chain(process.url)


@pytest.fixture
def account(chain: Chain) -> LocalAccount:
    account = load_account(b"\x07" * 32)
    chain.fund(account.address, 10**20)
    return account


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("experiment")
    return make_experiment(load_config(write_config(folder, rounds=1)), folder)


def test_what_was_sent_before_comes_first_again(chain: Chain, account: LocalAccount) -> None:
    for value in (1, 2):
        chain.send(Transaction(account, ELSEWHERE, value=value))
    _reorganise(chain, 2)
    assert chain.balance(ELSEWHERE) == 0
    chain.send(Transaction(account, ELSEWHERE, value=4))
    assert chain.balance(ELSEWHERE) == 7
    assert chain.sender.next_nonce(account.address) == 3


def test_what_another_program_sent_leaves_an_empty_place(chain: Chain, account: LocalAccount) -> None:
    Chain(chain.where).send(Transaction(account, ELSEWHERE, value=1))
    chain.send(Transaction(account, ELSEWHERE, value=2))
    _reorganise(chain, 2)
    chain.send(Transaction(account, ELSEWHERE, value=4))
    assert chain.balance(ELSEWHERE) == 6
    assert chain.sender.next_nonce(account.address) == 3


def test_a_nonce_that_another_program_used_is_not_used_again(chain: Chain, account: LocalAccount) -> None:
    other = Chain(chain.where)
    for value, sender in ((1, chain), (2, other), (4, chain), (8, other)):
        sender.send(Transaction(account, ELSEWHERE, value=value))
    assert chain.balance(ELSEWHERE) == 15


@pytest.mark.parametrize("forwarded", [0, 2])
def test_a_transaction_that_is_swallowed_or_sent_twice_runs_once(
    chain: Chain, account: LocalAccount, monkeypatch: pytest.MonkeyPatch, forwarded: int
) -> None:
    submit = chain.sender.submit

    def submit_badly(raw: bytes, digest: bytes) -> None:
        monkeypatch.setattr(chain.sender, "submit", submit)
        for _ in range(forwarded):
            submit(raw, digest)

    monkeypatch.setattr(chain.sender, "submit", submit_badly)
    chain.send(Transaction(account, ELSEWHERE, value=1))
    assert chain.balance(ELSEWHERE) == 1


def test_a_transaction_that_is_never_mined_ends_in_a_clear_error(
    chain: Chain, account: LocalAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedledger.contracts.chain.sender.RECEIPT_TIMEOUT", 1.5)
    chain.connection.ask("evm_setAutomine", [False])
    with pytest.raises(ChainError, match="was not mined within 2 s"):
        chain.send(Transaction(account, ELSEWHERE, value=1))


def test_of_many_transactions_those_that_are_swallowed_are_sent_again(
    chain: Chain, account: LocalAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, count = chain.sender.submit, itertools.count()

    def submit_badly(raw: bytes, digest: bytes) -> None:
        if next(count) not in (3, 70):
            submit(raw, digest)

    monkeypatch.setattr(chain.sender, "submit", submit_badly)
    before = chain.block_number()
    receipts = chain.send_all([Transaction(account, ELSEWHERE, value=1, gas=21_000) for _ in range(100)])
    assert chain.balance(ELSEWHERE) == 100 == len({receipt.hash for receipt in receipts})
    assert chain.gas_used(receipts[0].block) > 21_000, "one block has several"
    assert sum(chain.gas_used(n) for n in range(before + 1, chain.block_number() + 1)) == 100 * 21_000


def test_one_of_many_transactions_that_fails_says_why(chain: Chain, account: LocalAccount) -> None:
    ledger, _ = Ledger.deploy(chain, account, Settings(1, 0))
    with pytest.raises(ChainError, match="enrol: UnknownTask"):
        ledger.enrol_all([account], 5)


@pytest.mark.parametrize(("cause", "asked"), [(ConnectionError("gone"), 1), (ValueError("too many logs"), 6)])
def test_logs_are_asked_for_in_smaller_parts_only_of_a_chain_that_answers(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, asked: int
) -> None:
    chain, questions = Chain(), list[object]()

    def refuse(method: str, params: list[object]) -> None:
        questions.append(params)
        raise ChainError("no") from cause

    monkeypatch.setattr(chain.connection, "ask", refuse)
    with pytest.raises(ChainError):
        list(chain.logs(ELSEWHERE, [], 0, 10))
    assert len(questions) == asked


def test_a_history_follows_the_chain_that_is(chain: Chain, experiment: Experiment, tmp_path: Path) -> None:
    publisher, *people = (experiment_account(0, r, chain) for r in (PUBLISHER, *map(participant_role, range(2))))
    for each in (publisher, *people):
        chain.fund(each.address, 10**20)
    ledger, _ = Ledger.deploy(chain, publisher, Settings(1, 0))
    params = experiment.task_params(experiment.publish(LocalStore(tmp_path)))
    first = ledger.post_task(publisher, params)
    history = History(ledger).update()
    held = history.task(first)
    for person in people:
        ledger.register(person, person.address, person.address, params.min_stake)
        ledger.enrol(person, first)
    second = ledger.post_task(publisher, params)
    gone = history.update().task(second)
    assert held.enrolled == [0, 1] and set(history.tasks) == {first, second} and history.folds == 0
    _reorganise(chain, 3)
    assert history.update().task(first) is held and history.folds == 1
    assert held.enrolled == [0] and set(history.owners) == {0} and set(history.tasks) == {first}
    assert vars(held) == vars(History(ledger).update().task(first))
    assert history.update().folds == 1, "a history is not folded again without need"
    again = ledger.post_task(publisher, params)
    assert again == second and history.update().task(second) is gone


def test_who_finds_a_task_full_that_is_not_full_any_more_enrols_later(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, store = Chain(), LocalStore(tmp_path / "store")
    publisher, *people = (experiment_account(0, r, chain) for r in (PUBLISHER, *map(participant_role, range(3))))
    for each in (publisher, *people):
        chain.fund(each.address, 10**20)
    ledger, _ = Ledger.deploy(chain, publisher, Settings(1, 0))
    terms = experiment.task_params(experiment.publish(store))
    ledger.post_task(publisher, replace(terms, quorum=1, min_participants=1, max_participants=2))
    trainer, history = experiment.trainer(0), History(ledger)
    nodes = [
        Participant(TaskAccess(ledger, history, one, store, 1, experiment.spec), tmp_path / one.address, trainer)
        for one in people
    ]
    assert [node.step().action for node in nodes] == [Action.REGISTERED] * 3
    assert nodes[0].step().action is Action.ENROLLED

    def full(*arguments: object) -> None:
        raise RevertedError("TaskFull", (1,), "enrol")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "enrol", full)
        assert nodes[1].step().action is Action.WAITED, "it was full, and is not: it takes another try"
    assert nodes[1].step().action is Action.ENROLLED
    with pytest.raises(RevertedError, match="TaskFull"):
        nodes[2].act(Situation(history.task(1), Phase.ENROLLING))


def test_a_round_with_another_base_model_gets_another_update(experiment: Experiment, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    base = ModelFile.decode(experiment.contents[0])
    other = replace(base, vector=base.vector + 1)
    trained = []

    def train(context: TrainingContext) -> LocalUpdate:
        trained.append(context.base)
        return LocalUpdate(np.zeros(len(base.vector), np.float32), 1, 1)

    place: Any = SimpleNamespace(address=ELSEWHERE, chain=SimpleNamespace(chain_id=1))
    account = load_account(b"\x07" * 32)

    def start() -> Participant:
        access = TaskAccess(place, History(), account, store, 1, experiment.spec)
        return Participant(access, tmp_path / "journal", train)

    node = start()
    task = TaskHistory(1, ELSEWHERE, TERMS, TERMS.model)
    refs = [store.put(model.encode()) for model in (base, base, other)]
    rounds: list[Any] = [RoundHistory(1, ref, None, (), {}, {}) for ref in refs]  # type: ignore[arg-type]
    for ref, each in zip(refs, rounds, strict=True):
        made = node.updates.made(task, each)
        assert made.base == ref.digest
        content = node.updates.journal.content(each.index)
        assert made.reference == ContentRef.of(content)
        assert wire.decode(content).header.base == ref.digest.hex()
    assert len(trained) == 2, "the same update is not made twice"
    assert [node.batched.stands_by(task, each) for each in (*rounds, rounds[0])] == [True, True, False, True]
    assert [start().batched.stands_by(task, each) for each in (rounds[2], rounds[0])] == [False, True], (
        "nor after a restart"
    )
    stored = next((tmp_path / "store").rglob(node.updates.put(rounds[0], node.updates.made(task, rounds[0])).cid))
    assert stored.samefile(node.updates.journal.path(UPDATE, 1)), "the store shares the journal's file"
    unfinished = tmp_path / "journal" / ".tmp-of-one-that-was-killed"
    unfinished.write_bytes(b"half of an upd")
    os.utime(unfinished, (0, 0))
    assert start().updates.journal.entry(rounds[0]) is not None
    assert not unfinished.exists()


def _reorganise(chain: Chain, depth: int) -> None:
    chain.connection.ask("anvil_reorg", [depth, []])
