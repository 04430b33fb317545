"""What checks have to cost so that riding loses money: the arithmetic of plans, and the command that tells it."""

from __future__ import annotations

import json
from functools import cache
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedledger.platform.cli.app import app
from fedledger.platform.experiment.checked_data import least_stake
from fedledger.platform.experiment.config import checked
from fedledger.platform.spot_checks.plan import (
    MARGIN,
    CheckPlan,
    Windows,
    caught_within,
    least_rate,
    missed,
    most_pay,
    penalties_staked,
    penalty_for,
    rate_for,
    rounds_until,
)
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.records.settlement import apportion

AMOUNT = st.integers(1, 10**15)
RATE = st.integers(1, PPM)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.integers(0, 19), AMOUNT)
def test_no_score_pays_a_rider_more_than_sure_work_beside_as_many_honest(
    scores: list[int], riding: int, pot: int
) -> None:
    """Whatever other riders score, and none of the honest less than the rider."""
    riding = riding % len(scores) + 1
    given = [*scores[:riding], *[1000] * (len(scores) - riding)]
    assert max(apportion(pot, given)[:riding], default=0) <= most_pay(pot, len(scores), riding)


@given(AMOUNT, RATE)
def test_penalty_and_rate_follow_from_each_other_and_make_riding_lose(pay: int, rate: int) -> None:
    penalty = penalty_for(pay, rate)
    assert rate * penalty >= MARGIN * pay * PPM > rate * (penalty - 1)
    assert rate_for(pay, penalty) <= rate
    assert CheckPlan.of(pay, 20, rate).is_loss and CheckPlan.of(pay, 20, None, penalty).is_loss
    least = least_rate(pay, penalty)
    assert least * penalty > pay * PPM >= (least - 1) * penalty


def test_five_percent_need_forty_pays() -> None:
    plan = CheckPlan.of(1000, 20)
    assert (plan.rate, plan.penalty, plan.loss, plan.warnings(plan.stake)) == (50_000, 40_000, 1000, [])
    assert CheckPlan.of(1000, 20, 100_000).penalty == 20_000 and CheckPlan.of(1000, 20, None, 10_000).rate == 200_000


@given(st.integers(1, 500), st.integers(1, PPM - 1))
def test_chances_are_those_of_throws(rounds: int, rate: int) -> None:
    until = rounds_until(0.95, rate)
    assert caught_within(until, rate) >= 0.95 - 1e-9 and caught_within(until - 1, rate) < 0.95 + 1e-9
    assert caught_within(rounds, rate) == pytest.approx(1 - (1 - rate / PPM) ** rounds)


@given(st.integers(1, 60), st.data())
def test_windows_that_are_drawn_once_each_miss_no_more_than_told(windows: int, data: st.DataObject) -> None:
    forged, drawn = (data.draw(st.integers(1, windows)) for _ in range(2))
    without = comb(windows - forged, drawn) / comb(windows, drawn)
    told = missed(windows, forged, drawn)
    assert without <= told + 1e-12
    # Whoever forges a share of the windows, and so saves that share of the work, is found with at least that chance.
    assert 1 - told >= forged / windows - 1e-12


def best_gain(margin: float, q: float, rounds: int, penalties: int) -> float:
    """What a rider gains that begins, and stops where it is best, by trying out both; in pays of a round."""

    @cache
    def gain(left: int, held: int) -> float:
        if not left:
            return 0.0
        if not held:
            return float(left)
        return max(0.0, 1 - margin + q * gain(left - 1, held - 1) + (1 - q) * gain(left - 1, held))

    return gain(rounds, penalties)


@given(st.floats(1.01, 4), st.floats(0.01, 1), st.integers(1, 40))
def test_a_stake_holds_as_much_as_takes_the_gain_from_who_rides_until_it_is_found(
    margin: float, q: float, rounds: int
) -> None:
    rate = round(q * PPM)
    held = penalties_staked(margin, rate, rounds)
    assert best_gain(margin, rate / PPM, rounds, held) == 0
    assert held == 1 or best_gain(margin, rate / PPM, rounds, held - 1) > 0


def test_one_penalty_is_enough_while_few_rounds_are_undecided() -> None:
    # One penalty P pays for all until F with P >= v / q + (F - 1) v, which is F <= 1 + 1 / q in a plan.
    assert [penalties_staked(2, 50_000, rounds) for rounds in (1, 20, 21, 22)] == [1, 1, 1, 2]


def test_riders_lose_in_simulated_tasks_as_told() -> None:
    plan = CheckPlan.of(1000, 40)
    drawn = np.random.default_rng(7).random((20_000, 40)) < plan.rate / PPM
    profits = 40 * plan.pay - drawn.sum(axis=1) * plan.penalty
    error = profits.std() / len(profits) ** 0.5
    assert abs(profits.mean() + 40 * plan.loss) < 4 * error
    # What a stake of one penalty takes, until the first that was drawn is found out.
    first = np.where(drawn.any(axis=1), drawn.argmax(axis=1), 40)
    assert (first < 40).mean() == pytest.approx(caught_within(40, plan.rate), abs=0.02)


def test_what_cannot_be_planned_is_told() -> None:
    for make in (
        lambda: most_pay(100, 3, 4),
        lambda: most_pay(100, 3, 0),
        lambda: rate_for(100, 199),
        lambda: Windows(4, 5),
        lambda: CheckPlan.of(0, 20),
        lambda: CheckPlan.of(1, 20, rate=0),
        lambda: CheckPlan.of(1, 20, undecided=21),
        lambda: CheckPlan.of(1, 65_535, undecided=5000),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert caught.value.remedy
    assert rate_for(100, 200) == PPM


CONFIG = """
name = "checked"
participants = 12
model = { method = "logistic_regression@1", params = { inputs = 64, classes = 10 } }
[training]
rounds = 30
[ledger]
quorum = 8
stake_gwei = 5_000_000
units_per_round = 1_000
credit_unit_gwei = 4
"""


def plan_of(*options: str) -> dict[str, object]:
    told = CliRunner().invoke(app, ["spot-check", "plan", *options, "--format", "json"])
    assert told.exit_code == 0, told.output
    return dict(json.loads(told.stdout))


def test_the_command_plans_for_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    path = str(tmp_path / "config.toml")
    plan = plan_of(path)
    assert (plan["most_pay_gwei"], plan["check_penalty_gwei"], plan["rounds"]) == (500, 20_000, 30)
    assert plan["warnings"] == [] and plan["riding_loses"]
    assert plan_of(path, "--participants", "12", "--participants-that-ride", "3")["most_pay_gwei"] == 400
    low = plan_of(path, "--rate", "10000", "--penalty", "20000")
    assert not low["riding_loses"] and "raise check_penalty_gwei above 50000" in str(low["warnings"])
    shown = CliRunner().invoke(app, ["spot-check", "plan", path, "--windows", "20", "--windows-drawn", "2"])
    assert "Set check_rate = 50000" in shown.output and "20 forged windows" in shown.output and "0.5 %" in shown.output


def test_the_command_looks_at_what_a_configuration_says_of_checks(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG + "challenge_window = 60\ncheck_rate = 100_000\n")
    # A penalty that is not given follows from the rate.
    plan = plan_of(str(path))
    assert (plan["check_rate"], plan["check_penalty_gwei"], plan["warnings"]) == (100_000, 10_000, [])
    path.write_text(path.read_text() + "check_penalty_gwei = 4_000\n")
    assert "Riding pays" in str(plan_of(str(path))["warnings"])
    assert plan_of(str(path), "--rate", "200000")["check_penalty_gwei"] == 5_000


def test_the_command_plans_for_a_task_of_owners(tmp_path: Path) -> None:
    text = CONFIG.replace("participants = 12", "max_participants = 12").replace("quorum = 8", "min_participants = 8")
    (tmp_path / "task.toml").write_text(text + '[validation]\naccess = "public"\n')
    # The quorum is half of the least number of participants.
    assert plan_of(str(tmp_path / "task.toml"))["most_pay_gwei"] == 1000


def test_a_stake_that_is_given_has_to_hold_what_is_planned(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.replace("5_000_000", "19_999"))
    assert "stake_gwei is 19999, and holds too little" in str(plan_of(str(path))["warnings"])
    # Without a configuration nothing is given: stakes follow from the plan.
    plan = plan_of()
    assert plan["check_rate"] == 50_000 and plan["warnings"] == []
    refused = CliRunner().invoke(app, ["spot-check", "plan", "--penalty", "1"])
    assert refused.exit_code and isinstance(refused.exception, ConfigError)
    assert refused.exception.exit_code is ExitCode.CONFIG


@pytest.mark.parametrize(
    ("ledger", "stake"),
    [({}, 1_000_000), ({"stake_gwei": 3}, 3), ({"challenge_window": 60, "check_rate": 1_000}, 400_000_000)],
)
def test_a_recorded_configuration_asks_for_the_same_stake(ledger: dict[str, int], stake: int) -> None:
    """Of a stake that follows from the plan, the record of a run does not make one that was given."""
    model = {"method": "logistic_regression@1", "params": {"inputs": 64, "classes": 10}}
    config = checked({"name": "stakes", "model": model, "ledger": ledger}, "a configuration")
    assert least_stake(config) == least_stake(checked(config.model_dump(), "its record")) == stake
