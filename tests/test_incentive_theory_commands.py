"""``fedledger incentives menu`` and ``equilibrium``: what they print, and what they say of wrong options."""

from __future__ import annotations

import json

import pytest

from fedledger.protocol.errors import ExitCode
from support.command_line import Call, caller


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


def test_the_menu_is_the_published_one(call: Call) -> None:
    code, out, _ = call("incentives", "menu", "--format", "json")
    document = json.loads(out)
    assert code == 0 and round(document["profit"], 3) == 477_344.747 and len(document["items"]) == 10
    assert document["refusal"]["gain"] == pytest.approx(0, abs=1e-9)
    code, out, _ = call("incentives", "menu")
    assert code == 0 and "477,344.747" in out and "0.570978" in out
    assert "478,540.733" in call("incentives", "menu", "--unlimited")[1]


def test_whole_items_are_those_of_a_spec(call: Call) -> None:
    items = [[498, 99_830], [502, 99_970], [571, 101_205]]
    assert call("incentives", "menu", "--integers", 1000)[1] == f"items = {items}\n"
    code, out, _ = call("incentives", "menu", "--integers", 1000, "--format", "json")
    assert code == 0 and json.loads(out) == {"scale": 1000, "items": items}


def test_a_menu_that_breaks_a_constraint_says_so(call: Call) -> None:
    assert "Type 10 gains most by another's item: 5.41" in call("incentives", "menu", "--menu", "relaxed")[1]
    document = json.loads(call("incentives", "menu", "--menu", "tight", "--format", "json")[1])
    assert document["misreport"]["gain"] > 50


def test_every_parameter_reaches_the_contract(call: Call) -> None:
    def profit(*options: object) -> float:
        return float(json.loads(call("incentives", "menu", "--format", "json", *options)[1])["profit"])

    changed = {
        "--types": 4, "--first": 0.3, "--last": 0.8, "--accuracies": "0.3,0.6", "--workers": 90, "--cycles": 4,
        "--examples": 25, "--capacitance": 3, "--upload-time": 20, "--upload-energy": 10, "--longest": 500,
        "--worth": 700, "--reward-weight": 2, "--energy-price": 1.5, "--budget": 9000,
        "--shares": "0.2,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.05,0.05",
    }  # fmt: skip
    profits = [profit(), *(profit(option, value) for option, value in changed.items())]
    assert len({round(each, 6) for each in profits}) == len(profits)


def test_the_equilibrium_is_the_published_one(call: Call) -> None:
    code, out, _ = call("incentives", "equilibrium", "--format", "json")
    document = json.loads(out)
    assert code == 0 and document["reward"] == document["optimal_reward"] == pytest.approx(4.5)
    assert [round(each["contribution"], 6) for each in document["followers"]] == [0.595041, 0.22314]
    posted = json.loads(call("incentives", "equilibrium", "--reward", 9, "--format", "json")[1])
    assert posted["followers"][0]["contribution"] == pytest.approx(2 * 0.595041, abs=1e-6)
    assert posted["profit"] < document["profit"]
    code, out, _ = call("incentives", "equilibrium", "--costs", "1,2,30", "--valuation", "20")
    assert code == 0 and "the leader's optimum: 17;" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("menu", "--shares", "many"), "no list of numbers"),
        (("menu", "--accuracies", "0.5,0.2"), "do not ascend"),
        (("menu", "--budget", "2100"), "Give more than"),
        (("menu", "--menu", "relaxed", "--integers", "10"), "Iron them"),
        (("menu", "--first", "0"), "accuracies"),
        (("equilibrium", "--costs", "1"), "at least two"),
        (("equilibrium", "--reward", "-1"), "reward"),
    ],
)
def test_wrong_options_are_told(call: Call, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = call("incentives", *arguments)
    assert (code, out) == (ExitCode.CONFIG, "") and says in " ".join(err.split())
