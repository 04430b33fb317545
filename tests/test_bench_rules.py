"""Aggregation rules as pipelines of the bench, and the pictures and tables of what they come to."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import astuple, fields, replace
from pathlib import Path
from statistics import pstdev

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fedledger.aggregator.rules.base import RULES
from fedledger.platform.bench import heat_map_png
from fedledger.platform.bench.attack_suite import NAMES, NONE
from fedledger.platform.bench.heat_map import FAILED, FIGURES, NOTHING, HeatMap, cell_text
from fedledger.platform.bench.heat_map_files import write_heat_map
from fedledger.platform.bench.robustness import Case, Condition, Refusals, RobustnessRow, cases, configuration, played
from fedledger.platform.bench.robustness_options import PUBLISHED_ATTACKS, attacks_of, pipelines_of, populations_of
from fedledger.platform.bench.robustness_pipelines import expanded, pipeline_tables, rule_pipeline
from fedledger.platform.bench.robustness_rule_tables import picture_for, with_rule_tables
from fedledger.platform.bench.robustness_runs import Campaign, Kept
from fedledger.platform.bench.robustness_tables import csv_table
from fedledger.platform.cli.app import app
from fedledger.platform.cli.console import time_left
from fedledger.platform.engine.federation import Round
from fedledger.platform.experiment.pipelines import PIPELINES
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.verdicts import Verdict

HERE = Condition("digits", 0.5, 7, 2, 31)
ROW = RobustnessRow("mean", "sign_flip", "harm", "digits", 0.5, 13, 3, 31, accuracy=0.9, oracle=0.95, rounds=20)


def rows_of(lost: dict[tuple[str, str], list[float]]) -> list[RobustnessRow]:
    """One row for each pipeline, attack and seed, by what it lost."""
    return [
        replace(
            ROW,
            pipeline=pipeline,
            attack=attack,
            kind=NONE if attack == NONE else "harm",
            hostile=0 if attack == NONE else 3,
            seed=31 + place,
            accuracy=0.95 - value,
        )
        for (pipeline, attack), values in lost.items()
        for place, value in enumerate(values)
    ]


LOST = {
    ("mean", "none"): [0.0, 0.0],
    ("mean", "sign_flip"): [0.1, 0.3],
    ("mean", "mimic"): [0.04, 0.0],
    ("median", "none"): [0.3, 0.3],
    ("median", "sign_flip"): [0.01, 0.02],
    ("median", "mimic"): [0.05, 0.07],
}


def test_a_rule_is_a_pipeline_whose_parameters_suit_the_population() -> None:
    training = pipeline_tables("trimmed_mean@1", 13, 3)["training"]
    assert training["aggregation"] == {"method": "trimmed_mean@1", "params": {"f": 3}}
    assert training["pipeline"] == "plain" and "mixing" not in training
    mixed = pipeline_tables("median_clip+nnm@1(f=1)+krum@1", 10, 4)["training"]
    assert mixed["normalisation"] == {"method": "median_clip@1", "params": {}}
    assert mixed["mixing"] == {"method": "nearest_neighbour_mixing@1", "params": {"f": 1}}
    assert mixed["aggregation"] == {"method": "multi_krum@1", "params": {"f": 4, "m": 1}}
    share = pipeline_tables("weighted_trimmed_mean", 10, 3)["training"]["aggregation"]["params"]
    assert share == {"share": 0.3}
    # Each update has the same weight, and nothing is detected.
    config = configuration(Case("nnm+median", "over_claim_1e6", HERE))
    assert config.training.judgement is not None and config.training.judgement.claims == "nothing"
    assert not config.training.detection and config.training.contribution.method == "alignment@1"


def test_every_rule_has_a_name_and_the_newest_version() -> None:
    every = expanded("rules")
    newest: dict[str, int] = {}
    for key in RULES:
        name, _, version = key.partition("@")
        newest[name] = max(newest.get(name, 0), int(version))
    methods = [RULES.get(f"{name}@{newest[name]}") for name in every]
    assert len(every) >= 12 and len(set(map(id, methods))) == len(every)
    # Each rule that needs no parameter of its own, once: a weighted median is the newer median.
    assert set(newest) - set(every) == {"weighted_median"}
    for name in every:
        method = pipeline_tables(name, 13, 3)["training"]["aggregation"]["method"]
        assert method == f"{name}@{newest[name]}"
        assert expanded(f"nnm+{name}") == [f"nnm+{name}"]
    assert expanded("nnm+rules") == [f"nnm+{name}" for name in every]
    assert pipelines_of("default,rules,mean,krum(f=1,m=2)") == ["default", *every, "krum(f=1,m=2)"]
    for name in PIPELINES:
        assert rule_pipeline(name) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nothing", "aggregation rule 'nothing'"),
        ("nothing+mean", "mixing 'nothing'"),
        ("mean@9", "'mean@9'"),
        ("mean+mean", "aggregation rule 'mean'"),
        ("nnm+median_clip+mean", "order"),
        ("nnm+nnm+mean", "order"),
        ("trimmed_mean(f=-1)", "Give a whole number"),
        ("trimmed_mean(g=1)", "no parameter g"),
        ("trimmed_mean(f)", "not one parameter"),
        ("trimmed_mean(f=1,f=2)", "not one parameter"),
        ("fednova@1+mean", "needs max_steps"),
        ("", "''"),
        ("mean(", "'mean('"),
        ("x" * 100_000, "x"),
    ],
)
def test_what_is_no_rule_is_told(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        rule_pipeline(text)


def test_where_nobody_attacks_a_rule_still_expects_attackers() -> None:
    other = replace(HERE, hostile=3)
    chosen = cases(["trimmed_mean@1", "mean", "plain"], [NONE], [HERE, other])
    # Only the parameters of the first depend on how many would attack.
    assert [(case.pipeline, case.expected) for case in chosen] == [
        ("trimmed_mean@1", 2),
        ("trimmed_mean@1", 3),
        ("mean", None),
        ("plain", None),
    ]
    config = configuration(chosen[1])
    assert config.training.aggregation.params == {"f": 3} and not config.attackers
    keys = {Kept(None, 2)._key(case) for case in chosen}
    assert len(keys) == 4
    rows = [replace(ROW, attack=NONE, hostile=0, expected=f, accuracy=0.95 - f / 100) for f in (2, 3)]
    rows += [replace(ROW, hostile=f, expected=f) for f in (2, 3)]
    losses = [facet.cell(NONE, "mean").mean for (facet,) in HeatMap(rows).facets]
    assert losses == pytest.approx([0.02, 0.03])


def test_rules_bear_what_the_mean_does_not() -> None:
    mean, median = (played(Case(name, "noise_1", HERE), rounds=8) for name in ("mean", "median"))
    assert mean.accuracy is not None and median.accuracy is not None
    assert median.accuracy > mean.accuracy + 0.05
    # Over-claims change no weight.
    claimed, honest = (
        played(Case("mean", attack, HERE), rounds=3) for attack in ("little_work_claims_1e6", "little_work_10")
    )
    assert replace(claimed, attack="") == replace(honest, attack="")


def test_a_rule_that_the_population_does_not_suit_has_a_row_that_says_so() -> None:
    half = replace(HERE, participants=4, hostile=2)
    first, second = Campaign(cases(["weighted_trimmed_mean", "mean"], ["sign_flip"], [half]), Kept(None, 1)).rows()
    assert first.error is not None and "share is 0.5" in first.error and first.accuracy is None
    assert second.error is None
    options = "--seeds 31 --attacks sign_flip --dirichlet .5 --populations 4-2 --rounds 1 --workers 1 --format json"
    arguments = ["bench", "robustness", *options.split(), "--pipelines", "weighted_trimmed_mean,mean"]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == ExitCode.FAILURE
    assert [row["error"] is None for row in json.loads(told.stdout)["rows"]] == [False, True]


def test_f1_by_hand() -> None:
    model = ModelFile((), (), np.zeros(0, np.float32))

    def done(index: int, verdicts: dict[int, Verdict]) -> Round:
        return Round(index=index, model=model, verdicts=verdicts, seconds=0.0)

    good, bad = Verdict.ACCEPTED, Verdict.NOT_FINITE
    closed = [done(1, {0: good, 1: bad, 2: bad, 3: bad}), done(2, {0: good, 1: good, 2: bad, 3: good})]
    # Of four hostile updates three are refused, and of four honest ones one.
    assert Refusals.of(closed, [0, 1], [2, 3]) == Refusals(honest=0.25, hostile=0.75, precision=0.75, f1=0.75)
    peaceful = Refusals.of(closed, [0, 1, 2, 3], [])
    assert peaceful == Refusals(honest=0.5, hostile=None, precision=None, f1=None)
    idle = Refusals.of([done(1, {0: good, 1: good})], [0], [1])
    assert idle == Refusals(honest=0.0, hostile=0.0, precision=None, f1=0.0)


def test_options_name_groups() -> None:
    assert attacks_of("published,mimic,sybil") == [*PUBLISHED_ATTACKS, "sybil"]
    assert len(PUBLISHED_ATTACKS) == 8 and set(PUBLISHED_ATTACKS) <= set(NAMES)
    assert populations_of("10-10%,20-30%,13-25%,10-4") == [(10, 1), (20, 6), (13, 3), (10, 4)]
    for text in ("10-1%", "10-100%", "10-%", "10-3%%"):
        with pytest.raises(ConfigError):
            populations_of(text)


def test_time_left() -> None:
    assert time_left(10, 0, 5) == time_left(10, 5, 5) == ""
    assert time_left(10, 2, 4) == ", about 10 s left" and time_left(600, 10, 40) == ", about 30 min left"


def test_heat_maps_have_means_and_the_worst() -> None:
    shown_map = HeatMap(rows_of(LOST))
    ((facet,),) = shown_map.facets
    assert (facet.population, facet.division) == ("digits, 3 of 13 hostile", "Dirichlet 0.5")
    cell = facet.cell("sign_flip", "mean")
    assert (cell.mean, cell.worst, cell.worst_seed, cell.seeds) == (pytest.approx(0.2), pytest.approx(0.3), 32, 2)
    assert cell.deviation == pytest.approx(pstdev([0.1, 0.3])) and cell_text(cell, facet.shade) == "20"
    # What is lost where nobody attacks is no attack's.
    assert (facet.worst("mean"), facet.worst("median")) == ("sign_flip", "mimic")
    assert facet.mean("median") == pytest.approx((0.015 + 0.06) / 2)
    assert [cell.mean for cell in facet.summary["worst"]] == pytest.approx([0.2, 0.06])
    assert "seeds 31, 32" in shown_map.caption and "digits" in shown_map.caption and FAILED not in shown_map.caption
    failed = HeatMap([*rows_of(LOST), replace(ROW, pipeline="bulyan", accuracy=None, error="too few")])
    ((facet,),) = failed.facets
    assert cell_text(facet.cell("sign_flip", "bulyan"), facet.shade) == FAILED and FAILED in failed.caption
    assert cell_text(facet.cell("mimic", "bulyan"), facet.shade) == NOTHING
    assert facet.worst("bulyan") is facet.mean("bulyan") is None


def test_shades_grow_with_what_is_bad_and_scales_name_them() -> None:
    for name, figure in FIGURES.items():
        ticks = [figure.shade(value) for value in figure.shade.ticks]
        assert ticks == sorted(set(ticks)) and ticks[0] >= 0 and ticks[-1] <= 1, name
    lost = FIGURES["lost"].shade
    assert lost.of(-0.02) < lost.of(-0.01) < lost.of(0.01) and lost(-0.01) == 0
    assert FIGURES["pay_ratio"].shade.text(12_345.6) == "12,346" and FIGURES["lost"].shade.text(0.0996) == "10"
    assert FIGURES["f1"].of(replace(ROW, f1=0.5)) == 0.5 and FIGURES["lost"].of(ROW) == pytest.approx(0.05)


def test_a_png_has_its_size_its_colours_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    rows = rows_of(LOST)
    file = tmp_path / "map.png"
    write_heat_map(file, HeatMap(rows))
    with Image.open(file) as picture:
        width, height = picture.size
        colours = {tuple(pixel) for pixel in np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()}
    assert width == 6 * heat_map_png.DPI and 2 * heat_map_png.DPI < height < 5 * heat_map_png.DPI
    frame = tuple(int(heat_map_png.FRAME[place : place + 2], 16) for place in (1, 3, 5))
    assert frame in colours and len(colours) > 50
    first = file.read_bytes()
    write_heat_map(file, HeatMap(rows))
    assert file.read_bytes() == first
    # More facets are beside and below each other.
    more = [replace(row, dirichlet=d, participants=n) for row in rows for d in (0.1, 0.5, "iid") for n in (10, 13)]
    write_heat_map(file, HeatMap([replace(row, pipeline=f"{row.pipeline}{k}") for row in more for k in range(5)]))
    with Image.open(file) as picture:
        assert picture.size[0] > 2 * width and picture.size[1] > 1.3 * height


def test_a_page_holds_the_figures_and_no_markup_of_names(tmp_path: Path) -> None:
    file = tmp_path / "map.html"
    rows = [replace(row, pipeline=row.pipeline.replace("median", "<b>$x$")) for row in rows_of(LOST)]
    write_heat_map(file, HeatMap(rows))
    page = file.read_text()
    data = page[page.rindex("Plotly.newPlot") :]
    assert "worst seed 32: 30 (0.3000)" in data and "standard deviation 0.1000, 2 seeds" in data
    assert "<b>$x$" not in data and "http" not in re.sub(r'"https://plot\.ly"', "", data)
    write_heat_map(tmp_path / "map.png", HeatMap(rows))
    for wrong, told in ((tmp_path / "map.jpg", ".png or .html"), (tmp_path / "nowhere" / "map.png", "no folder")):
        with pytest.raises(ConfigError, match=re.escape(told)):
            write_heat_map(wrong, HeatMap(rows))


def test_tables_of_rules_say_what_passes(tmp_path: Path) -> None:
    marks = "Before.\n<!-- fedledger bench robustness rules -->\n<!-- end -->\nAfter.\n"
    picture = picture_for(tmp_path / "docs" / "page.md", [tmp_path / "a.html", tmp_path / "docs" / "images" / "a.png"])
    text = with_rule_tables(marks, rows_of(LOST), picture)
    assert text.startswith("Before.\n") and text.endswith("<!-- end -->\nAfter.\n")
    assert "](images/a.png)" in text
    assert "| mean | 0.0 | 20 | 2.0 | 11 | 20 (sign_flip) |" in text
    assert "| mean | sign_flip |\n| median | mimic |" in text
    # Of many attacks the worst is named.
    many = {("mean", name): [place / 100, place / 100] for place, name in enumerate(NAMES[:20])}
    assert f"| mean | 0.0 | 10 | 19 ({NAMES[19]}) |" in with_rule_tables(marks, rows_of(many))
    with pytest.raises(ConfigError, match="nothing to write"):
        with_rule_tables(marks, [replace(ROW, error="it failed")])


def test_csv_holds_all_rows() -> None:
    rows = [*rows_of(LOST), replace(ROW, pipeline="=1+1,\n", error='it "failed"', accuracy=None, expected=3)]
    names, *lines = csv.reader(csv_table(rows).splitlines(keepends=True))
    assert names == [field.name for field in fields(RobustnessRow)]
    for row, line in zip(rows[:-1], lines[:-1], strict=True):
        assert line == ["" if value is None else str(value) for value in astuple(row)]
    last = dict(zip(names, lines[-1], strict=True))
    # No spreadsheet computes it.
    assert last["pipeline"].startswith("'=1+1") and last["error"] == 'it "failed"' and last["expected"] == "3"


def test_the_command_draws_and_writes(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("<!-- fedledger bench robustness rules -->\n<!-- end -->\n")
    options = "--seeds 31 --attacks none,rider_x1 --dirichlet .5 --populations 7-2 --rounds 1 --workers 1 --figure f1"
    written = ["--heat-map", "a.png", "--heat-map", "a.html", "--csv", "a.csv", "--document", "page.md"]
    paths = [str(tmp_path / each) if "." in each else each for each in written]
    arguments = ["bench", "robustness", *options.split(), "--pipelines", "default,nnm+trimmed_mean@1(f=1)"]
    told = CliRunner().invoke(app, [*arguments, *paths])
    assert told.exit_code == 0, told.output
    assert Image.open(tmp_path / "a.png").size[0] > 500
    assert "F1 of refusals" in (tmp_path / "a.html").read_text()
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 5
    assert "| nnm+trimmed_mean@1(f=1) |" in document.read_text() and "![" in document.read_text()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--heat-map a.gif", "a.gif is no .png or .html file"),
        ("--heat-map nowhere/a.png", "no folder nowhere"),
        ("--csv nowhere/a.csv", "no folder nowhere"),
        ("--figure nothing", "no figure 'nothing'"),
        ("--document page.md", "no place for the table"),
        ("--pipelines nnm+nothing", "'nothing'"),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is_played(
    options: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.md").write_text("<!-- fedledger bench robustness -->\n<!-- end -->\n")
    usual = "--seeds 31 --attacks none --populations 7-2 --rounds 1 --workers 1 --pipelines median --out kept"
    result = CliRunner().invoke(app, ["bench", "robustness", *usual.split(), *options.split()])
    assert isinstance(result.exception, ConfigError), result.output
    assert told in f"{result.exception}" and not Path("kept").exists()
