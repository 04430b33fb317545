"""Rules that know more than the rows: on a ledger, audited, and the same without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedledger.aggregator.round import outcome
from fedledger.aggregator.round.methods import MAX_MEMORY_BYTES, check_memory
from fedledger.aggregator.round.state import State
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import EMBEDDED
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.trusted_update import read_trusted
from fedledger.storage.local import LocalStore
from support.quick import quick
from support.small import Small, run_small, write_config

RULES = {
    "foolsgold@1": {},
    "fltrust@1": {},
    "dnc@1": {"f": 1, "iterations": 3, "coordinates": 500},
    "bulyan@1": {"f": 1},
    "weighted_median@1": {},
    "weighted_trimmed_mean@1": {"share": 0.2},
}


def configured(rule: str, randomness: str = "spec") -> str:
    params = ", ".join(f"{name} = {value}" for name, value in RULES[rule].items())
    return f'randomness = "{randomness}"\naggregation = {{ method = "{rule}", params = {{ {params} }} }}'


def run(folder: Path, rule: str, randomness: str = "spec") -> Small:
    return run_small(folder, Chain(EMBEDDED), participants=5, rounds=3, extra=configured(rule, randomness))


def report(made: Small, index: int) -> dict[str, Any]:
    proposal = made.run.task.rounds[index].proposal
    assert proposal is not None
    return canonical.decode(LocalStore(made.folder / "store").get(proposal.report))


@pytest.mark.parametrize("rule", quick(2, RULES))
def test_a_run_is_reproduced_by_its_audit_and_is_the_same_without_a_ledger(rule: str, tmp_path: Path) -> None:
    made = run(tmp_path, rule)
    result = audit_run(tmp_path)
    assert result.reproduced and result.rounds == 3
    folder = tmp_path / "plain"
    folder.mkdir()
    experiment = make_experiment(load_config(tmp_path / "config.toml"), tmp_path)
    plain = run_without_ledger(experiment, folder, "serial")
    assert plain["final_model"] == made.summary["final_model"]
    assert made.summary["accuracy"] > 0.2


def test_draws_follow_the_beacon_where_the_spec_says_so(tmp_path: Path) -> None:
    (tmp_path / "beacon").mkdir()
    (tmp_path / "spec").mkdir()
    assert run(tmp_path / "beacon", "dnc@1", "beacon").run.task.counted
    assert audit_run(tmp_path / "beacon").reproduced


def test_what_foolsgold_remembers_is_in_the_state_that_the_ledger_names(tmp_path: Path) -> None:
    made = run(tmp_path, "foolsgold@1")
    proposal, store = made.run.task.rounds[2].proposal, LocalStore(tmp_path / "store")
    assert proposal is not None
    dimension = len(made.run.final.vector)
    state = State.decode(store.get(proposal.state), dimension)
    addresses = {made.experiment.address(number) for number in range(5)}
    assert {name.removeprefix("rules.0.") for name in state.memories} == addresses
    assert all(kept.shape == (dimension,) and kept.any() for kept in state.memories.values())
    assert State.decode(state.encode(), dimension).encode() == store.get(proposal.state)


def test_a_trusted_update_is_content_that_an_audit_needs_and_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run(tmp_path, "fltrust@1")
    named = Ref.model_validate(report(made, 2)["trusted"]).ref
    store = LocalStore(tmp_path / "store")
    assert store.has(named)
    store.unpin(named)
    missing = audit_run(tmp_path)
    assert (
        not missing.reproduced and missing.first_divergence is not None and missing.first_divergence.field == "trusted"
    )
    # Who names one update and computes with another one is found out.
    lying = tmp_path / "lying"
    lying.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(outcome, "read_trusted", lambda *given: -read_trusted(*given))
        run(lying, "fltrust@1")
    found = audit_run(lying)
    assert not found.reproduced and found.first_divergence is not None and found.first_divergence.round == 1


def test_memory_is_bounded_when_a_task_is_posted(tmp_path: Path) -> None:
    spec = make_experiment(load_config(write_config(tmp_path, extra=configured("foolsgold@1"))), tmp_path).spec
    check_memory(spec, 10, MAX_MEMORY_BYTES // 80)
    with pytest.raises(ConfigError, match="bytes from round to round"):
        check_memory(spec, 10, MAX_MEMORY_BYTES // 80 + 1)
