"""The bench that plays strategies where updates are checked: what it counts as earned, lost and found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedledger.platform.bench.honest_checks import CONVOLUTION, PERCEPTRONS, HonestRun, honest_cells, varied
from fedledger.platform.bench.robustness import Condition
from fedledger.platform.bench.spot_check_runs import (
    CHAINS,
    GROUPS,
    NEW,
    STRATEGIES,
    STUDY,
    CheckedCase,
    CheckedRow,
    Earned,
    cases,
    played,
)
from fedledger.platform.bench.spot_checks import StudyOptions, profit_of, study, table_cells
from fedledger.platform.cli.app import app
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.reputation import PPM

CASE = CheckedCase(NEW, "copy", None, 10, 1, 3)


def row_of(*earned: Earned) -> CheckedRow:
    return CheckedRow(CASE, 20, pot=100_000, quorum=5, honest=200_000, earned=list(earned))


def test_profit_is_pay_less_penalties_and_gas() -> None:
    """v is 20,000 units, P 40 v or 4 honest pays, and a stake holds one P."""
    options = StudyOptions(PPM // 20, gas_price=2.0)
    terms = options.terms(row_of())
    assert (terms.plan.pay, terms.plan.penalty, terms.plan.staked_penalties) == (200_000, 8_000_000, 1)
    rides = Earned(accepted=10, failing=10, caught=[2] * CHAINS, pay=50_000, unearned=50_000, most=10_000)
    found = profit_of([row_of(rides), row_of(replace(rides, caught=[0] * CHAINS))], terms)
    assert (found.pay, found.unearned, found.failing, found.a_failing) == (0.25, 0.25, 10, 0.5)
    assert found.profit == pytest.approx(0.25 - 4 / 2) and found.error == pytest.approx(2)
    assert found.expected == pytest.approx(0.25 - 4 * (1 - 0.95**10))
    honest = profit_of([row_of(Earned(accepted=20, answered=[1] * CHAINS, pay=200_000))], terms)
    # One answer of 50,000 gas at 2 gwei, where all pay is 2,000,000 gwei.
    assert honest.profit == honest.expected == pytest.approx(1 - 0.05)


def test_updates_are_counted_by_what_a_check_finds() -> None:
    earned = Earned()
    for units, passes, drawn_by in ((5, True, []), (7, True, [0]), (11, False, []), (13, False, [0, 2])):
        earned.add(units, passes, drawn_by)
    assert (earned.accepted, earned.failing, earned.pay, earned.unearned, earned.most) == (4, 2, 36, 24, 13)
    assert (earned.answered[:3], earned.caught[:3], sum(earned.caught)) == ([1, 0, 0], [1, 0, 1], 2)


@pytest.mark.parametrize(("strategy", "fails"), [("none", False), ("copy", True), ("over_claim", True)])
def test_honest_work_passes_and_other_work_fails(strategy: str, fails: bool) -> None:
    row = played(replace(CASE, strategy=strategy, hostile=int(strategy != "none")), rate=PPM, rounds=2)
    assert len(row.earned) == (1 if fails else 10)
    for each in row.earned:
        assert each.failing == (each.accepted if fails else 0)
        assert each.caught == [each.failing] * CHAINS and each.answered == [each.accepted - each.failing] * CHAINS
    assert sum(each.accepted for each in row.earned) >= 2


def test_names_that_share_out_one_data_set_pass_on_their_parts() -> None:
    row = played(replace(CASE, strategy="split_data", hostile=3), rate=PPM, rounds=1)
    assert [each.failing for each in row.earned] == [0, 0, 0] and sum(each.accepted for each in row.earned)


def test_every_strategy_that_does_not_train_is_played_against_the_default_pipeline() -> None:
    assert {"rider_noise", "replay", "old_combination", "over_claim", "copy"} < set(STUDY)
    assert {"sybil", "split_data", "mimic"} < set(GROUPS) < set(STRATEGIES)
    given = [Condition("digits", 0.5, 10, 1, seed) for seed in (1, 2)]
    chosen = cases(["digits", NEW], list(STUDY), given)
    assert len(chosen) == len(set(chosen)) == 2 * 2 * len(STUDY)
    config = cases(["digits"], ["replay"], given)[0].config(Path())
    assert config.training.contribution is not None and config.training.contribution.method == "corroborated@1"
    assert config.training.solver.method == "replayable_sgd@1" and config.training.measurement == "exact"
    for tasks, strategies in ((["words"], ["none"]), (["digits"], ["prays"])):
        with pytest.raises(ConfigError):
            cases(tasks, strategies, given)


def test_the_command_writes_figures(tmp_path: Path) -> None:
    options = "--tasks new --strategies none,copy --seeds 1,2 --rounds 2 --workers 1 --rate 100000"
    told = CliRunner().invoke(app, ["bench", "spot-checks", *options.split(), "--out", str(tmp_path / "figures.json")])
    assert told.exit_code == 0, told.output
    document = json.loads((tmp_path / "figures.json").read_text())
    assert document["rate"] == 100_000 and document["seeds"] == [1, 2]
    honest, copy = document["rows"]
    assert (honest["strategy"], honest["failing"], honest["runs"]) == ("none", 0, 2)
    assert copy["failing"] == copy["accepted"] > 0 and copy["expected"] < 0


def test_honest_participants_pass_whatever_they_train(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["bench", "honest-checks", "--checks", "40", "--workers", "1", "--format", "json"])
    assert told.exit_code == 0, told.output
    rows = json.loads(told.stdout)["rows"]
    assert (sum(row["checks"] for row in rows), sum(row["failed"] for row in rows)) == (40, 0)
    seen = [varied(seed, tmp_path) for seed in range(12)]
    assert {kind for kind, _ in seen} == {*PERCEPTRONS, CONVOLUTION}
    assert len({experiment.spec.digest for _, experiment in seen}) == 12
    assert {experiment.spec.windows is None for _, experiment in seen} == {True, False}


def test_a_check_that_an_honest_participant_fails_is_counted() -> None:
    run = HonestRun(1, CONVOLUTION, True, False, {"passed": 38, "does not follow": 2})
    assert honest_cells([run, replace(run, found={"passed": 40})])[0] == {
        "model": CONVOLUTION,
        "momentum": "yes",
        "replayed": "all",
        "runs": 2,
        "checks": 80,
        "failed": 2,
    }


@pytest.mark.long
def test_no_strategy_that_does_not_train_gains() -> None:
    given = [Condition("digits", 0.5, 10, 1, seed) for seed in range(1, 4)]
    found = study(cases(["digits", NEW], list(STUDY), given), StudyOptions(PPM // 20, workers=2))
    assert len(table_cells(found)) == len(found) == 2 * len(STUDY)
    for each in found:
        if each.hostile:
            # Who trains at first keeps what that earned; whoever is always refused has nothing.
            assert each.expected < each.pay - each.unearned or each.accepted == each.pay == 0
        else:
            assert each.expected > 0.97 * each.pay and each.failing == 0
