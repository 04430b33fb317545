"""Agents: what they know, when they come, what they report; the same rounds and pay with a ledger and without."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.contracts.chain.chain import Chain
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.agents.agent import NEW, Agent, Experience, groups_of, trained_on
from fedledger.platform.agents.config import AgentConfig
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import Round, play
from fedledger.platform.engine.with_ledger import LedgerRecord, run
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.platform.runs.money import agent_rows, told_money
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.platform.runs.results import write_results
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.records.spec import ReportedNumber
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.schedules.devices import Trip
from fedledger.storage.local import LocalStore

CONFIG = """
name = "agents"
participants = 8
compare_with_mean = false
model = {{ method = "mlp@1", params = {{ inputs = 64, hidden = [8], classes = 10 }} }}
[data]
partition = {{ method = "iid@1" }}
[training]
pipeline = "plain"
rounds = {rounds}
{mechanism}
[ledger]
quorum = 2
units_per_round = 1000
{terms}
"""
AUCTION = """bidding = 4
mechanism = { method = "vcg@1", params = { winners = 3 } }
report = [{ name = "cost", most = 500 }]
"""
FIXED = 'mechanism = { method = "fixed@1", params = { price = 120 } }\n'
PROPORTIONAL = 'mechanism = { method = "proportional@1" }\n'
GROUPS = """
[[agents]]
name = "cheap"
count = 3
private = { cost = [50, 100] }
drift = 0.3
[[agents]]
name = "dear"
count = 2
private = { cost = [110, 240] }
drift = 0.2
rational = true
tells = { cost = 1.2 }
effort = 0.5
[[agents]]
name = "fleeting"
count = 2
private = { cost = [60, 90] }
leaves = 0.4
returns = 0.6
[[agents]]
name = "hostile"
count = 1
attack = { method = "sign_flip@1" }
claims = { cost = [0, 40] }
"""


def made(folder: Path, mechanism: str = AUCTION, agents: str = GROUPS, terms: str = "", rounds: int = 5) -> Experiment:
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(CONFIG.format(mechanism=mechanism, terms=terms, rounds=rounds) + agents)
    return make_experiment(load_config(folder / "config.toml"), folder)


def in_memory(experiment: Experiment) -> tuple[MemoryRecord, list[Round]]:
    record = MemoryRecord(experiment)
    return record, list(play(record, Serial(experiment)))


def agent(**given: Any) -> Agent:
    return Agent(AgentConfig(count=1, **given), seed=7, number=3)


# -- what they are ----------------------------------------------------------------------------------------------------


def test_private_numbers_stay_in_their_bounds_and_drift_by_no_more_than_they_may() -> None:
    one = agent(private={"cost": (100, 1000)}, drift=0.1)
    walk = [one.truth("cost", index) for index in range(1, 200)]
    known = [value for value in walk if value is not None]
    assert len(known) == len(walk) and all(100 <= value <= 1000 for value in known)
    assert all(abs(after - before) <= before * 0.1 + 1 for before, after in pairwise(known))
    assert len(set(known)) > 50
    # In whatever order somebody asks.
    again = agent(private={"cost": (100, 1000)}, drift=0.1)
    assert [again.truth("cost", index) for index in (150, 3, 77)] == [walk[149], walk[2], walk[76]]


def test_without_drift_nothing_changes_and_effort_costs_its_share() -> None:
    one = agent(private={"cost": (101, 101)}, effort=0.5)
    assert {one.cost(index) for index in (1, 5, 100)} == {50}
    assert one.truth("quality", 1) is None


def test_costs_of_devices_are_those_of_their_energy_and_time() -> None:
    trip = Trip(500_000, 1_000_000, 500_000, 1_000, 2_500_000, 499_000)
    assert Agent(AgentConfig(count=1, units_per_joule=10, units_per_second=3), 1, 0, trip).cost(9) == 30 + 6


def test_an_agent_is_away_as_often_as_its_chances_say() -> None:
    one = agent(leaves=0.1, returns=0.3)
    there = [one.is_there(index) for index in range(1, 8001)]
    # In the long run returns / (leaves + returns) of the rounds.
    assert 0.71 < np.mean(there) < 0.79
    left = [after for before, after in pairwise(there) if before]
    assert 0.08 < 1 - np.mean(left) < 0.12
    late = agent(first=3, last=5)
    assert [late.is_there(index) for index in range(1, 8)] == [False, False, True, True, True, False, False]


def test_reports_are_the_truth_times_what_is_told_or_claims_and_within_the_tasks_bounds() -> None:
    cost, quality = ReportedNumber(name="cost", most=500), ReportedNumber(name="quality", most=9)
    assert agent(private={"cost": (100, 100)}, tells={"cost": 1.5}).report([cost], 4) == {"cost": 150}
    assert agent(private={"cost": (400, 400)}, tells={"cost": 9}).report([cost], 4) == {"cost": 500}
    # Who is asked for more than it knows stays silent, and so does who is away.
    assert agent(private={"cost": (1, 1)}).report([cost, quality], 1) is None
    assert agent(private={"cost": (1, 1)}, last=2).report([cost], 3) is None
    price = ReportedNumber(name="price", most=500)
    assert agent(private={"cost": (40, 40)}, tells={"price": 2}).report([price], 1) == {"price": 80}
    liar = agent(private={"quality": (5, 5)}, claims={"quality": (7, 9)})
    claimed = [liar.report([quality], index) for index in range(1, 60)]
    assert {each["quality"] for each in claimed if each} == {7, 8, 9}


def test_a_rational_agent_works_where_it_expects_to_gain_and_tries_again() -> None:
    one = agent(private={"cost": (100, 100)}, rational=True, tries_again=2)
    assert one.comes(1, 0, NEW), "nobody knows what a task pays before the first round"
    assert one.comes(1, 100, NEW) and not one.comes(1, 99, Experience(expected=500, away=9))
    assert not one.comes(2, 0, Experience(expected=99)) and one.comes(2, 0, Experience(expected=100))
    assert not one.comes(3, 0, Experience(99, away=1)) and one.comes(3, 0, Experience(99, away=2))
    poor = NEW.worked(40, 100)
    assert poor == Experience(40, 0, 1, 40, 100) and poor.utility == -60
    assert poor.worked(80, 100).expected == 50


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.floats(0.01, 1), st.integers(0, 2**40))
def test_effort_keeps_its_share_of_the_examples(sizes: list[int], effort: float, seed: int) -> None:
    groups = [AgentConfig(count=1, effort=effort)] * len(sizes)
    kept = trained_on(groups, sizes, seed)
    for part, size in zip(np.split(kept, np.cumsum(sizes)[:-1]), sizes, strict=True):
        assert effort * size - 0.01 <= part.sum() <= effort * size + 1
        assert part.sum() >= min(1, size)


def test_groups_are_drawn_by_the_seed_alone(tmp_path: Path) -> None:
    groups = [AgentConfig(name="a", count=3), AgentConfig(name="b", count=4)]
    one = [group.name for group in groups_of(groups, 10, 1)]
    assert sorted(one) == ["a"] * 3 + ["b"] * 4 + ["others"] * 3
    assert one != [group.name for group in groups_of(groups, 10, 2)] and groups_of([], 10, 1) == []
    auction, fixed = made(tmp_path / "a"), made(tmp_path / "b", FIXED)
    assert auction.spec.digest != fixed.spec.digest
    assert [each.cost(3) for each in auction.agents] == [each.cost(3) for each in fixed.agents]
    assert [name for name in auction.behaviours if name != HONEST] == ["sign_flip"]


@pytest.mark.parametrize(
    "agents, told",
    [
        ("[[agents]]\ncount = 9", "more agents than its 8 participants"),
        ('[[agents]]\ncount = 1\n[[attackers]]\nattack = { method = "noise@1" }', "both attackers and agents"),
        ("[[agents]]\ncount = 1\nunits_per_joule = 1.0", "there are none"),
        ("[[agents]]\ncount = 1\nfirst = 3\nlast = 2", "before they come"),
        ("[[agents]]\ncount = 1\nprivate = { cost = [2, 1] }", "from 2 to 1"),
        ('[[agents]]\ncount = 1\nattack = { method = "no_such@1" }', "no_such"),
        ("[[agents]]\ncount = 1\neffort = 0.0", "greater than 0"),
    ],
)
def test_groups_that_cannot_be_are_refused(agents: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        made(tmp_path, agents=agents)


# -- in rounds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mechanism, terms",
    [(AUCTION, ""), (FIXED, "batched = true"), (PROPORTIONAL, "pools_pay = true")],
    ids=["auction", "fixed price, batched", "shares, pooled"],
)
def test_agents_do_and_earn_the_same_with_a_ledger_and_without(mechanism: str, terms: str, tmp_path: Path) -> None:
    """To the unit: who comes, what each round pays, what each has gained, the model; and the audit finds the same."""
    experiment = made(tmp_path, mechanism, terms=terms)
    record, alone = in_memory(experiment)
    store = LocalStore(tmp_path / "store")
    finished = run(experiment, Chain(), store, tmp_path)
    document = write_results(finished, experiment, store, tmp_path, [])
    assert document["agents"] == agent_rows(experiment, record.attendance)
    assert document["spent"] == finished.metrics[-1]["spent"] == sum(sum(each.shares.values()) for each in alone)
    settled = [r for _, r in sorted(finished.task.rounds.items())]
    assert [r.index for r in settled] == [each.index for each in alone]
    numbers = {experiment.address(number): number for number in range(8)}
    for found, known in zip(settled, alone, strict=True):
        assert {numbers[found.owners[i]]: v for i, v in found.verdicts.items()} == dict(known.verdicts)
        units = {} if found.proposal is None else found.proposal.shares
        shares = {numbers[found.owners[i]]: each for i, each in units.items() if each}
        assert shares == {number: each for number, each in known.shares.items() if each}
    assert finished.final.vector.tobytes() == alone[-1].model.vector.tobytes()
    missed = sum(verdict is Verdict.MISSED for each in alone for verdict in each.verdicts.values())
    assert missed > 0, "somebody stayed away"
    assert sum(sum(each.shares.values()) for each in alone) > 0
    assert audit_run(tmp_path).reproduced
    # Who comes back to the ledger knows what it knew.
    deployment = finished.deployment
    again = LedgerRecord(experiment, finished.ledger.chain, store, tmp_path, deployment)
    assert again.agents.attendance.experiences == record.attendance.experiences
    assert len(record.attendance.experiences) >= 4


def test_what_agents_earn_is_what_rounds_pay(tmp_path: Path) -> None:
    experiment = made(tmp_path)
    record, rounds = in_memory(experiment)
    rows = agent_rows(experiment, record.attendance)
    for number, row in enumerate(rows):
        came = [
            each for each in rounds if each.verdicts.get(number, Verdict.MISSED) not in (Verdict.MISSED, Verdict.HEARD)
        ]
        assert row["rounds"] == len(came)
        assert row["pay"] == sum(each.shares.get(number, 0) for each in rounds)
        assert row["cost"] == sum(experiment.agents[number].cost(each.index) for each in came)
        assert row["utility"] == row["pay"] - row["cost"]
    assert {row["group"] for row in rows} == {"cheap", "dear", "fleeting", "hostile"}


def test_a_round_to_which_too_few_come_is_voided_and_three_end_the_run(tmp_path: Path) -> None:
    late = "[[agents]]\ncount = 7\nfirst = 3\nprivate = { cost = [1, 1] }"
    _, rounds = in_memory(made(tmp_path / "late", FIXED, late))
    assert [each.empty for each in rounds] == [True, True] + [False] * 5
    assert all(not each.verdicts for each in rounds[:2])
    with pytest.raises(RoundError, match="3 rounds in a row were below the quorum of 2"):
        in_memory(made(tmp_path / "never", FIXED, late.replace("3", "30")))


def test_a_resumed_run_goes_on_with_what_agents_had_seen(tmp_path: Path) -> None:
    experiment = made(tmp_path, PROPORTIONAL)
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    whole = run_without_ledger(experiment, tmp_path / "whole", "serial")
    seen: list[int] = []

    class InterruptionError(Exception):
        pass

    def watch(row: dict[str, Any]) -> None:
        seen.append(row["round"])
        if len(seen) == 3:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        run_without_ledger(experiment, tmp_path / "halves", "serial", watch=watch, checkpoint_seconds=0)
    resumed = run_without_ledger(experiment, tmp_path / "halves", "serial")
    assert resumed["final_model"] == whole["final_model"] and resumed["agents"] == whole["agents"]
    assert sum(row["pay"] for row in whole["agents"]) == whole["spent"] > 0
    spent, *groups = told_money(whole)
    assert spent == f"Rounds have paid {whole['spent']:,} units."
    assert sorted(line.split(",")[0] for line in groups) == ["cheap", "dear", "fleeting", "hostile"]


def test_who_is_elsewhere_is_not_asked(tmp_path: Path) -> None:
    for mechanism in (AUCTION, FIXED):
        record = MemoryRecord(made(tmp_path, mechanism, "[[agents]]\ncount = 8\nprivate = { cost = [9, 90] }"))
        record.attendance.is_elsewhere = lambda number: number % 2 == 1
        rounds = list(play(record, Serial(record.experiment)))
        asked = {number for each in rounds for number in each.verdicts}
        assert asked <= {0, 2, 4, 6} and all(each.accepted for each in rounds if not each.bidding)
        assert set(record.attendance.experiences) <= {0, 2, 4, 6}
        assert record.attendance.enrolled(8) == [0, 2, 4, 6]
