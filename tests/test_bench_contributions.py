"""The benchmark of contribution scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedledger.platform.bench.contributions import EXACT, NAMES, ContributionRow, Given, measured, table_cells
from fedledger.platform.bench.robustness import DIGITS, Condition
from fedledger.platform.cli.app import app
from fedledger.protocol.errors import ConfigError, FedledgerError

SMALL = Condition(data=DIGITS, dirichlet=1.0, participants=4, hostile=0, seed=1)


def test_each_score_is_tried_on_the_same_rounds() -> None:
    rows = {row.method: row for row in measured(Given.of(SMALL, "none", 2, 1))}
    assert list(rows) == list(NAMES)
    exact = rows[EXACT]
    assert exact.coalitions == 15 and exact.pearson == pytest.approx(1)
    assert rows["leave_one_out@1"].coalitions == 5 and rows["cgsv@1"].coalitions == 0
    # Of four participants all orders are few.
    assert rows["fedsv@1"].pearson == pytest.approx(1)
    assert all(row.hostile_pay is None for row in rows.values())


def test_pay_of_attackers_is_over_that_of_the_honest() -> None:
    condition = Condition(data=DIGITS, dirichlet=1.0, participants=5, hostile=1, seed=1)
    (rider, alike) = measured(Given.of(condition, "rider_zero", 3, 1), ["gtg_shapley@1", "equal@1"])
    assert alike.hostile_pay == alike.most_hostile_pay == pytest.approx(1)
    assert rider.hostile_pay is not None and rider.hostile_pay < 0.5


def test_gtg_stays_near_exact_values_for_a_tenth_of_the_evaluations() -> None:
    condition = Condition(data=DIGITS, dirichlet=0.5, participants=10, hostile=0, seed=2)
    (gtg,) = measured(Given.of(condition, "none", 3, 1), ["gtg_shapley@1"])
    assert gtg.coalitions <= 102 and gtg.pearson is not None and gtg.pearson >= 0.9


def test_the_command_writes_figures_and_a_table(tmp_path: Path) -> None:
    out, document = tmp_path / "figures.json", tmp_path / "page.md"
    document.write_text("<!-- fedledger bench contributions -->\n<!-- end -->\n")
    arguments = ["--methods", "cgsv@1,leave_one_out@1", "--participants", "3", "--rounds", "1", "--repeats", "1"]
    told = CliRunner().invoke(
        app, ["bench", "contributions", *arguments, "--document", str(document), "--format", "json", "--out", str(out)]
    )
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found == json.loads(out.read_text())
    assert [row["method"] for row in found["rows"]] == ["cgsv@1", "leave_one_out@1"]
    assert "| leave_one_out@1 | 4 |" in document.read_text()


def test_what_cannot_be_played_is_told() -> None:
    with pytest.raises(FedledgerError, match="best"):
        measured(Given.of(SMALL, "none", 1, 1), ["best@1"])
    with pytest.raises(ConfigError, match="no attack"):
        measured(Given.of(SMALL, "unheard_of", 1, 1), ["cgsv@1"])


def test_the_table_leaves_out_what_there_is_not() -> None:
    row = ContributionRow("cgsv@1", 0, 1.25, None, None, None, 0.5)
    assert list(table_cells([row])[0].values()) == ["cgsv@1", "0", "1.2", "–", "–", "–", "50%"]
