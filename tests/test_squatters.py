"""Who wins by its bid and never works: rounds go on, and those who work are paid."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from fedledger.aggregator.mechanisms.base import Market, Offer
from fedledger.aggregator.mechanisms.trade import PATIENCE, choose
from fedledger.aggregator.mechanisms.vcg import Vcg
from fedledger.contracts.chain.chain import Chain
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.with_ledger import run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.platform.runs.results import write_results
from fedledger.protocol.arithmetic.random_streams import stream
from fedledger.protocol.errors import RoundError
from fedledger.storage.local import LocalStore

CONFIG = """
name = "squatters"
participants = 8
compare_with_mean = false
model = {{ method = "mlp@1", params = {{ inputs = 64, hidden = [8], classes = 10 }} }}
[data]
partition = {{ method = "iid@1" }}
[training]
pipeline = "plain"
rounds = 4
bidding = {every}
mechanism = {{ method = "{mechanism}", params = {params} }}
report = [{{ name = "cost", most = 500 }}]
[ledger]
quorum = 3
units_per_round = 1000
{terms}
[[agents]]
name = "honest"
count = {honest}
private = {{ cost = [100, 200] }}
[[agents]]
name = "squatters"
count = {squatters}
private = {{ cost = [100000, 100000] }}
claims = {{ cost = [0, 0] }}
rational = true
tries_again = 1000
"""
VCG, SHARES = ("vcg@1", "{ winners = 4 }"), ("proportional_share@1", "{}")


def made(folder: Path, every: int, mechanism: tuple[str, str], terms: str = "", squatters: int = 2) -> Experiment:
    folder.mkdir(exist_ok=True)
    method, params = mechanism
    text = CONFIG.format(
        every=every, mechanism=method, params=params, terms=terms, honest=8 - squatters, squatters=squatters
    )
    (folder / "config.toml").write_text(text)
    return make_experiment(load_config(folder / "config.toml"), folder)


@pytest.mark.parametrize(
    ("every", "mechanism", "terms"),
    [(2, VCG, ""), (10, VCG, "batched = true\npools_pay = true"), (10, SHARES, "")],
    ids=["bids every other round", "batched, pooled", "by reputation"],
)
def test_squatters_stop_no_task_and_take_nobodys_pay(
    every: int, mechanism: tuple[str, str], terms: str, tmp_path: Path
) -> None:
    """Two of eight bid nothing, so that they always win, and stay away: with them no round would reach its quorum."""
    experiment = made(tmp_path, every, mechanism, terms)
    alone = list(play(MemoryRecord(experiment, judged=True), Serial(experiment)))
    store = LocalStore(tmp_path / "store")
    finished = run(experiment, Chain(), store, tmp_path)
    write_results(finished, experiment, store, tmp_path, [])
    training = [each for each in alone if not each.bidding]
    assert sum(not each.empty for each in training) == 4
    assert not any(first.empty and second.empty for first, second in pairwise(training))
    assert all(sum(each.shares.values()) > 0 for each in training if not each.empty)
    numbers = {experiment.address(number): number for number in range(8)}
    for (_, found), known in zip(sorted(finished.task.rounds.items()), alone, strict=True):
        assert {numbers[found.owners[i]]: v for i, v in found.verdicts.items()} == dict(known.verdicts)
        units = {} if found.proposal is None or found.voided else found.proposal.shares
        assert {numbers[found.owners[i]]: n for i, n in units.items() if n} == {
            k: n for k, n in known.shares.items() if n
        }
    assert finished.final.vector.tobytes() == alone[-1].model.vector.tobytes()
    assert audit_run(tmp_path).reproduced


def test_bids_alone_keep_no_run_alive(tmp_path: Path) -> None:
    """Three void rounds end it, also with bids that are heard between them."""
    experiment = made(tmp_path, 2, VCG, squatters=6)
    with pytest.raises(RoundError, match="3 rounds in a row were below the quorum"):
        list(islice(play(MemoryRecord(experiment, judged=True), Serial(experiment)), 40))


@pytest.mark.parametrize("mechanism", [VCG, SHARES], ids=["a void round", "somebody's absence"])
def test_a_resumed_run_remembers_whose_bids_do_not_stand(
    mechanism: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = made(tmp_path, 10, mechanism)
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    whole = run_without_ledger(experiment, tmp_path / "whole", "serial")
    opened = MemoryRecord._opened

    class InterruptionError(Exception):
        pass

    def interrupted(record: MemoryRecord) -> Any:
        if record.progress.index == 2:
            raise InterruptionError
        return opened(record)

    with monkeypatch.context() as patched, pytest.raises(InterruptionError):
        patched.setattr(MemoryRecord, "_opened", interrupted)
        run_without_ledger(experiment, tmp_path / "halves", "serial", checkpoint_seconds=0)
    begun: list[int] = []

    def noted(record: MemoryRecord) -> Any:
        begun.append(record.progress.index)
        return opened(record)

    monkeypatch.setattr(MemoryRecord, "_opened", noted)
    resumed = run_without_ledger(experiment, tmp_path / "halves", "serial")
    assert begun[0] == 2
    assert resumed["final_model"] == whole["final_model"] and resumed["agents"] == whole["agents"]


@pytest.mark.parametrize("voids", [0, PATIENCE - 1, PATIENCE])
def test_who_is_passed_over_makes_no_offer_and_after_some_voids_everybody_is_asked(voids: int) -> None:
    offers = [Offer(f"0x{place:040x}", {"cost": place}) for place in range(6)]
    market = Market(offers, 1000, 2, 1, lambda: stream(bytes(32), "draws", 1))
    trade = choose(Vcg(2), market, voids, {offers[0].address, offers[1].address})
    asked = {offers[2].address, offers[3].address} if voids < PATIENCE else set()
    assert set(trade.terms) == asked and all(terms.price == 4 for terms in trade.terms.values())
    assert len(trade.market.offers) == 4
