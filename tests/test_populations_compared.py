"""Mechanisms compared on populations: figures by hand, runs that go on, tables, pictures, and markets."""

from __future__ import annotations

import csv
import io
import json
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.platform.cli.incentives_run import incentives_market, incentives_run
from fedledger.platform.experiment.config import checked
from fedledger.platform.incentives.populations.clairvoyant import best_value
from fedledger.platform.incentives.populations.config import Case, load_comparison
from fedledger.platform.incentives.populations.figures import AgentFigures, Played, PlayedRound, pearson, row_of
from fedledger.platform.incentives.populations.market import Market, load_market
from fedledger.platform.incentives.populations.pictures import write_png
from fedledger.platform.incentives.populations.runs import PLAYS, Comparison
from fedledger.platform.incentives.populations.tables import csv_table, table_cells, utility_cells
from fedledger.protocol.errors import ConfigError

ROOT = Path(__file__).parents[1]
TASK = """
participants = 8
compare_with_mean = false
model = { method = "mlp@1", params = { inputs = 64, hidden = [8], classes = 10 } }
[%s.data]
partition = { method = "iid@1" }
[%s.training]
pipeline = "plain"
rounds = 3
bidding = 4
report = [{ name = "cost", most = 500 }, { name = "power", most = 9 }]
[%s.ledger]
quorum = 2
units_per_round = 1000
"""
COMPARISON = (
    'seeds = [1, 2]\nvalue = 1000\n[experiment]\nname = "small"\n'
    + TASK.replace("%s", "experiment")
    + """
[[mechanisms]]
method = "fixed@1"
params = { price = 120 }
[[mechanisms]]
name = "auction"
method = "vcg@1"
params = { winners = 3 }
[[populations]]
name = "honest"
[[populations.agents]]
name = "cheap"
count = 5
private = { cost = [50, 100] }
[[populations.agents]]
name = "dear"
count = 3
private = { cost = [110, 200] }
rational = true
"""
)


def comparison(folder: Path, text: str = COMPARISON) -> Path:
    (folder / "comparison.toml").write_text(text)
    return folder / "comparison.toml"


def case() -> Case:
    config = checked({"name": "a", "model": {"method": "mlp@1"}}, "a test")
    return Case("fixed@1", "some", 1, config, 1000)


# -- figures ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6), st.integers(0, 60))
def test_no_choice_within_the_budget_is_worth_more_than_the_best(people: list[tuple[int, int]], budget: int) -> None:
    values, costs = [value for value, _ in people], [cost for _, cost in people]
    best = best_value(values, costs, budget)
    choices = [chosen for chosen in product([0, 1], repeat=len(people)) if _dot(chosen, costs) <= budget]
    whole = max(_dot(chosen, values) for chosen in choices)
    # The relaxed optimum is beyond the whole one by less than one of the values.
    assert whole <= best <= whole + max([0, *values])


def _dot(first: Any, second: Any) -> int:
    return sum(a * b for a, b in zip(first, second, strict=True))


def test_part_of_the_last_one_is_bought() -> None:
    assert best_value([10, 6, 9], [5, 2, 0], 4) == Fraction(9 + 6) + Fraction(10, 5) * 2


def test_figures_of_a_run_by_hand() -> None:
    rounds = [PlayedRound(0.2, 100, 60, 4, 2, 30, 40.0), PlayedRound(0.5, 50, 70, 4, 4, 30, 60.0)]
    agents = [AgentFigures("a", 100, 80, 30), AgentFigures("a", 50, 50, 15), AgentFigures("b", 0, 10, 0)]
    row = row_of(case(), Played(rounds, agents, 0.1))
    assert (row.score, row.spent, row.cost) == (0.5, 150, 130)
    assert row.gained == pytest.approx(400) and row.profit == pytest.approx(250) and row.welfare == pytest.approx(270)
    assert row.participation == 6 / 8 and row.unharmed == pytest.approx(2 / 3)
    assert row.regret == pytest.approx(1 - 60 / 100) and row.pearson == pytest.approx(1)
    assert row.utilities == {"a": 10, "b": -10} and row.curve == [(100, 0.2), (150, 0.5)]


def test_a_run_without_rounds_has_figures_too() -> None:
    row = row_of(case(), Played([], [AgentFigures("a", 0, 0, 0)], 0.1, "nobody came"))
    assert (row.spent, row.gained, row.participation, row.regret, row.pearson) == (0, 0, None, None, None)
    assert row.stopped == "nobody came"
    assert pearson([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


# -- configurations ---------------------------------------------------------------------------------------------------


def test_each_mechanism_is_told_what_it_needs_and_no_more(tmp_path: Path) -> None:
    cases = load_comparison(comparison(tmp_path))
    assert [str(each) for each in cases] == [
        f"{name}, honest, seed {seed}" for name in ("fixed@1", "auction") for seed in (1, 2)
    ]
    fixed, auction = cases[0].config.training, cases[2].config.training
    assert fixed.report == [] and fixed.bidding is None
    assert [number.name for number in auction.report] == ["cost"] and auction.bidding == 4
    assert {each.config.seed for each in load_comparison(comparison(tmp_path), 7, [5])} == {5}
    assert {each.config.training.rounds for each in load_comparison(comparison(tmp_path), 7)} == {7}


@pytest.mark.parametrize(
    "old, new, told",
    [
        ('name = "auction"', 'name = "fixed@1"', "Two mechanisms"),
        ('name = "cost", most', 'name = "price", most', "needs participants to report cost"),
        ("count = 5", "count = 50", "more agents than its 8 participants"),
        ("winners = 3", "winners = 0", "winners"),
        ("value = 1000", "", "value"),
    ],
)
def test_comparisons_that_cannot_be_are_refused(old: str, new: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        load_comparison(comparison(tmp_path, COMPARISON.replace(old, new)))


def test_examples_are_read() -> None:
    assert len(load_comparison(ROOT / "examples/devices/comparison.toml")) == 30
    market, experiments = load_market(ROOT / "examples/market/market.toml")
    assert [each.name for each in market.publishers] == [each.name for each in experiments]


# -- runs -------------------------------------------------------------------------------------------------------------


def test_a_comparison_goes_on_from_what_is_kept_and_is_the_same_on_contracts(tmp_path: Path) -> None:
    cases = load_comparison(comparison(tmp_path), seeds=[1])
    told: list[str] = []
    first = Comparison(cases[:1], tmp_path, tmp_path / "out").rows()
    rows = Comparison(cases, tmp_path, tmp_path / "out", announce=lambda doing, done, of: told.append(doing)).rows()
    assert told == ["auction, honest, seed 1"] and rows[0] == first[0]
    assert len((tmp_path / "out" / PLAYS).read_text().split()) > 2
    assert Comparison(cases, tmp_path, ledger=True).rows() == rows
    for row in rows:
        assert row.error is None and row.spent and row.utilities is not None
        # Whatever is paid is somebody's.
        gains = 5 * row.utilities["cheap"] + 3 * row.utilities["dear"]
        assert row.cost is not None and gains == pytest.approx(row.spent - row.cost)
        assert row.welfare == pytest.approx((row.profit or 0) + gains)
    # In a Vickrey auction nobody who tells the truth is harmed.
    assert rows[1].unharmed == 1 and rows[1].utilities is not None and min(rows[1].utilities.values()) >= 0


def test_a_run_that_cannot_be_stands_in_its_row_and_ends_no_other(tmp_path: Path) -> None:
    text = COMPARISON.replace("inputs = 64, hidden = [8]", "inputs = 65, hidden = [8]")
    rows = Comparison(load_comparison(comparison(tmp_path, text), seeds=[1]), tmp_path).rows()
    assert all(row.error and row.spent is None for row in rows) and len(rows) == 2
    with pytest.raises(ConfigError, match="nothing to draw"):
        write_png(tmp_path / "nothing.png", rows)


def test_nobody_who_comes_ends_a_run_early_and_not_the_program(tmp_path: Path) -> None:
    late = COMPARISON.replace("count = 5", "count = 5\nfirst = 90").replace("count = 3", "count = 3\nfirst = 90")
    (row,) = Comparison(load_comparison(comparison(tmp_path, late), seeds=[1])[:1], tmp_path).rows()
    assert row.stopped is not None and "below the quorum" in row.stopped and row.error is None
    assert (row.spent, row.gained) == (0, 0)
    assert "ended early" in table_cells([row])[0]


def test_the_command_writes_tables_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    incentives_run(comparison(tmp_path), out, "1", None, False, 1)
    shown = capsys.readouterr().out
    assert "auction" in shown and "regret" in shown and "cheap" in shown
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((out / "comparison.json").read_text())["rows"]
    table = list(csv.DictReader(io.StringIO((out / "comparison.csv").read_text())))
    assert [row["mechanism"] for row in rows] == [row["mechanism"] for row in table] == ["fixed@1", "auction"]
    assert [float(row["profit"]) for row in table] == [row["profit"] for row in rows]
    before = (out / "comparison.png").read_bytes()
    incentives_run(comparison(tmp_path), out, "1", None, False, 1)
    assert (out / "comparison.png").read_bytes() == before


def test_tables_are_means_over_seeds() -> None:
    rounds = [PlayedRound(0.5, 100, 60, 4, 2, 30, 40.0)]
    rows = [row_of(case(), Played(rounds, [AgentFigures("a", pay, 60, 1)], 0.0)) for pay in (100, 200)]
    assert utility_cells(rows) == [{"population": "some", "mechanism": "fixed@1", "a": "90"}]
    assert table_cells(rows)[0]["spent"] == "100" and table_cells(rows)[0]["seeds"] == "2"
    assert csv_table(rows).count("\n") == 3


# -- markets ----------------------------------------------------------------------------------------------------------

MARKET = (
    "period = 2\nexplores = 0.0\n"
    + "".join(
        f'[[publishers]]\nname = "{name}"\nvalue = 1000\n[publishers.experiment]\n'
        + TASK.replace("%s", "publishers.experiment")
        .replace("bidding = 4\n", f'mechanism = {{ method = "fixed@1", params = {{ price = {price} }} }}\n')
        .replace('report = [{ name = "cost", most = 500 }, { name = "power", most = 9 }]\n', "")
        .replace("rounds = 3", "rounds = 6")
        for name, price in (("generous", 120), ("mean", 80))
    )
    + "[[agents]]\ncount = 8\nprivate = { cost = [10, 20] }\n"
)


def test_agents_go_where_they_have_earned_more(tmp_path: Path) -> None:
    path = tmp_path / "market.toml"
    path.write_text(MARKET)
    market, experiments = load_market(path, seed=3)
    outcome = Market(market, experiments, tmp_path).play()
    first, second, third = outcome.periods[:3]
    # Each tries what it does not know, then stays where it earned more.
    assert sum(first.chose) == sum(second.chose) == 8 and second.chose == first.chose[::-1]
    assert third.chose == [8, 0]
    # No period begins once all tasks have ended.
    assert all(later.paid != earlier.paid for earlier, later in pairwise(outcome.periods))
    generous, mean = outcome.rows
    assert generous.stopped is None and generous.spent is not None and mean.spent is not None
    assert generous.spent > mean.spent and mean.stopped is not None
    again = Market(*load_market(path, seed=3), tmp_path).play()
    assert again == outcome


@pytest.mark.parametrize(
    "old, new, told",
    [
        ('name = "mean"', 'name = "generous"', "one name"),
        ("participants = 8", "participants = 9", "unequal numbers"),
        ("period = 2", "period = 0", "greater than or equal to 1"),
    ],
)
def test_markets_that_cannot_be_are_refused(old: str, new: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "market.toml"
    path.write_text(MARKET.replace(old, new, 1))
    with pytest.raises(ConfigError, match=told):
        load_market(path)


def test_the_command_of_markets_shows_publishers_and_periods(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "market.toml"
    path.write_text(MARKET)
    incentives_market(path, 3)
    shown = capsys.readouterr().out
    assert "generous" in shown and "from round" in shown and "ended early" in shown
