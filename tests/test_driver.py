"""The aggregator's driver: what it does next follows from the ledger alone, whatever happens in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedledger.aggregator.driver import Act, Aggregator
from fedledger.contracts.chain import Chain
from fedledger.contracts.client import TaskRecord
from fedledger.contracts.history import History
from fedledger.ledger_tools.deploy import deploy
from fedledger.platform.accounts import AGGREGATOR, PUBLISHER, experiment_account, participant_role
from fedledger.platform.config import load_config
from fedledger.platform.setting import make_setting
from fedledger.protocol.store import LocalStore
from support.small import write_config


def test_who_enrols_while_the_aggregator_looks_is_selected_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last participant enrols between the aggregator's reading of logs and its question how many there are."""
    setting = make_setting(load_config(write_config(tmp_path, rounds=1)), tmp_path)
    chain, store = Chain(), LocalStore(tmp_path / "store")
    publisher, account = (experiment_account(0, role, chain) for role in (PUBLISHER, AGGREGATOR))
    people = [experiment_account(0, participant_role(number), chain) for number in range(4)]
    for each in (publisher, account, *people):
        chain.fund(each.address, 10**20)
    ledger, _ = deploy(chain, publisher, 1, 0)
    task = ledger.post_task(publisher, setting.task_params(setting.publish(store)))
    for person in people:
        ledger.register(person, person.address, person.address, 10**15)
    for person in people[:3]:
        ledger.enrol(person, task)
    history = History(ledger)
    aggregator = Aggregator(ledger, history, account, task, store, setting.spec, setting.measurer())
    assert aggregator.step().act is Act.WAITED
    ask = ledger.task

    def late(number: int) -> TaskRecord:
        monkeypatch.setattr(ledger, "task", ask)
        ledger.enrol(people[3], number)
        return ask(number)

    monkeypatch.setattr(ledger, "task", late)
    acts = [aggregator.step().act, aggregator.step().act]
    assert acts == [Act.WAITED, Act.OPENED]
    assert sorted(history.update().task(task).rounds[1].selected) == [0, 1, 2, 3]
