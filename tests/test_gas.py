"""Gas of rounds as the benchmark measures it, and the figures that are kept in the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.development import running_chain
from fedledger.contracts.compile import VERSION
from fedledger.contracts.ledger.client import Ledger
from fedledger.platform.bench import gas
from fedledger.platform.bench.gas import GasRow, measure
from fedledger.protocol.errors import ChainError

Rows = dict[tuple[str, str, int], GasRow]


@pytest.fixture(scope="module")
def rows() -> Rows:
    with pytest.MonkeyPatch.context() as patch, running_chain("anvil") as process:
        patch.setattr(gas, "SPARSE", (20, 80))
        found = list(measure(Chain(process.url), "anvil", [100]))
    return {(row.mode, row.case, row.participants): row for row in found}


def test_each_way_to_commit_is_measured_in_its_cases(rows: Rows) -> None:
    direct = [("direct", case, count) for count in (10, 100) for case in ("first", "warm")]
    sparse = [("batched", case, 20) for case in ("sparse, alone", "sparse")]
    assert list(rows) == [*direct, ("batched", "first", 100), ("batched", "warm", 100), *sparse]
    for (mode, case, count), row in rows.items():
        assert not row.error and row.gas_per_participant == round(sum(row.parts.values()) / count)
        assert ("open" in row.parts) == (case == "first")
        assert ("commit" in row.parts) == (mode == "direct")


def test_a_participants_own_transactions_do_not_grow_with_their_number(rows: Rows) -> None:
    assert {row.own_transaction for (mode, *_), row in rows.items() if mode == "batched"} == {0}
    ten, hundred = (rows["direct", "warm", count].own_transaction or 0 for count in (10, 100))
    assert 0 < hundred <= ten + 100, "besides the zeros among hashes"


def test_a_round_is_cheaper_the_second_time_and_in_a_batch(rows: Rows) -> None:
    def cost(*key: Any) -> int:
        return rows[key].gas_per_participant or 0

    assert cost("batched", "warm", 100) < cost("batched", "first", 100) < cost("direct", "warm", 100)
    together, alone = rows["batched", "sparse", 20], rows["batched", "sparse, alone", 20]
    assert (together.together, alone.together) == (gas.ROUNDS_PER_SETTLEMENT, 1)
    assert together.parts["close"] == pytest.approx(alone.parts["close"], rel=0.3), "the mean of all rounds"
    assert cost("batched", "sparse", 20) < cost("batched", "sparse, alone", 20)
    assert cost("batched", "warm", 100) < min(peer.gas for peer in gas.PEERS) / 10


def test_the_figures_in_the_repository_are_those_of_this_ledger(rows: Rows, root: Path) -> None:
    """Write them anew with ``fedledger bench gas --out benchmarks/gas.json`` if this fails."""
    kept = json.loads((root / "benchmarks" / "gas.json").read_text())
    assert kept["ledger"] == VERSION and kept["chains"]["anvil"]["calldata_byte"] == 40
    figures = {(row["mode"], row["case"], row["participants"]): row for row in kept["rows"]}
    assert {("batched", case, 1000) for case in ("first", "warm", "sparse", "sparse, alone")} <= figures.keys()
    for key in rows.keys() & figures.keys():
        assert figures[key]["gas_per_participant"] == pytest.approx(rows[key].gas_per_participant, rel=0.001), key


def test_a_refusal_of_the_ledger_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise ChainError("too many")

    monkeypatch.setattr(Ledger, "open_round", refuse)
    monkeypatch.setattr(gas, "DIRECT", ())
    monkeypatch.setattr(gas, "SPARSE", (1, 2))
    found = list(measure(Chain(), "embedded", [2]))
    assert [(row.case, row.gas_per_participant, row.error) for row in found] == [
        ("warm", None, "too many"),
        ("sparse", None, "too many"),
    ]
