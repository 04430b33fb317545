"""Whole runs of every mechanism: pay is the same with a ledger and without, and audits find the same to the unit."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedledger.aggregator.mechanisms.base import MECHANISMS, Learning
from fedledger.aggregator.mechanisms.tables import tables_in
from fedledger.contracts.chain.chain import Chain
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.runs.results import write_results
from fedledger.protocol.encoding.cid import MAX_STATE_BYTES
from fedledger.protocol.methods.parameters import build
from fedledger.storage.local import LocalStore
from support.quick import quick

CONFIG = """
name = "mechanisms"
participants = 6
compare_with_mean = false
model = { method = "mlp@1", params = { inputs = 64, hidden = [8], classes = 10 } }
[data]
partition = { method = "iid@1" }
[training]
pipeline = "plain"
rounds = 5
"""
LEDGER = """
[ledger]
quorum = 2
batched = true
units_per_round = 1000
"""
BIDDING = """
bidding = 4
report = [{{ name = "{name}", most = 500 }}]
[reports]
{name} = [{low}, {high}]
"""
PLAYED = [
    ("truthful_bandit@1", "{ tries_a_round = 3, every = 2 }"),
    ("fli@1", "{}"),
    ("zhan_learned@1", "{ rewards = [200, 400, 800], worth = 300, unit = 100 }"),
    ("proportional_share@1", "{}"),
    ("vcg@1", "{ winners = 3 }"),
    ("fmore@1", "{ winners = 3, worth = 600 }"),
    ("contract_menu@1", "{ items = [[50, 100], [100, 180]] }"),
    ("sarikaya@1", "{ price = 2 }"),
    ("zhan@1", "{ reward = 700 }"),
    ("pandey@1", "{ price = 90, full = 1000000 }"),
    ("fixed@1", "{ price = 100 }"),
    ("reputation_weighted@1", "{}"),
    ("proportional@1", "{}"),
]


def test_every_mechanism_is_played() -> None:
    assert {key for key, _ in PLAYED} == set(MECHANISMS)


@pytest.mark.parametrize(("key", "params"), quick(3, PLAYED))
def test_a_run_pays_alike_with_a_ledger_and_without_and_audits(key: str, params: str, tmp_path: Path) -> None:
    text = f'{CONFIG}mechanism = {{ method = "{key}", params = {params} }}\n'
    for name in MECHANISMS.get(key).reports:  # type: ignore[attr-defined]
        low, high = (0, 2) if name == "item" else (50, 300)
        text += BIDDING.format(name=name, low=low, high=high)
    (tmp_path / "config.toml").write_text(text + LEDGER)
    experiment = make_experiment(load_config(tmp_path / "config.toml"), tmp_path)
    store = LocalStore(tmp_path / "store")
    finished = run(experiment, Chain(), store, tmp_path)
    write_results(finished, experiment, store, tmp_path, [])
    alone = list(play(MemoryRecord(experiment, judged=True), Serial(experiment)))
    numbers = {experiment.address(number): number for number in range(6)}
    paid = 0
    for settled, known in zip(finished.task.settled, alone, strict=True):
        assert settled.proposal is not None
        shares = {numbers[settled.owners[i]]: units for i, units in settled.proposal.shares.items() if units}
        assert shares == {number: units for number, units in known.shares.items() if units}
        paid += sum(shares.values())
    assert paid > 0
    assert finished.final.vector.tobytes() == alone[-1].model.vector.tobytes()
    method = build(MECHANISMS, key, experiment.spec.mechanism.params)  # type: ignore[union-attr]
    last = finished.task.settled[-1].proposal
    assert last is not None
    tables = tables_in(store.get(last.state, MAX_STATE_BYTES))
    assert bool(tables) == isinstance(method, Learning)
    result = audit_run(tmp_path)
    assert result.reproduced, result.first_divergence
