"""A round of statistics: constants of a data schema from participants that show no row, whoever of them lies."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.aggregator.rules.median import Median
from fedledger.learning.data import Dataset
from fedledger.learning.models.base import build_model
from fedledger.learning.objectives.classification import CLASSIFICATION
from fedledger.learning.schemas.columns import Reading
from fedledger.learning.schemas.statistics import fit_statistics, with_constants
from fedledger.learning.sources.tables import read_tables
from fedledger.learning.vectors import FlatModel
from fedledger.node.solvers.base import BLANK
from fedledger.node.solvers.build import build_solver
from fedledger.node.solvers.column_statistics import own_statistics
from fedledger.platform.experiment.statistics_draft import statistics_text, text_with
from fedledger.platform.experiment.task_config import TaskConfig, make_task, read_task_config
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.protocol.records.data_schema import (
    CategoryColumn,
    ClassTarget,
    NumberColumn,
    StatisticsSchema,
    TableSchema,
    read_schema,
    schema_of,
)
from support.command_line import caller
from support.consortium import LABEL, consortium, rows_elsewhere

AGE = NumberColumn(name="age", unit="years", least=0, most=120)
SEX = CategoryColumn(name="sex", categories=("f", "m", "x"))
TOLD = StatisticsSchema(columns=(AGE, SEX), least_examples=5)
ILL = ClassTarget(name="ill", classes=("no", "yes"))
TABLE = TableSchema(columns=(AGE.model_copy(update={"missing": 0.0}), SEX), target=ILL)


def fitted(folder: Path, *rows: str) -> Dataset:
    path = folder / "own.csv"
    path.write_text("age,sex\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return fit_statistics(TOLD, read_tables(path, ","), Reading({"?"})).required()


def own(examples: Dataset, base: Any) -> Any:
    return own_statistics(examples.inputs, examples.targets, np.asarray(base, np.float64))


def rounds(owners: list[Dataset], liars: list[Any], count: int = 2) -> list[Any]:
    """The model after each round of medians, beside what the honest owners told for it."""
    base = np.zeros(2 * TOLD.width)
    played = []
    for index in range(count):
        honest = np.array([own(each, base) for each in owners])
        rows = np.round(np.array([*honest, *(lie[index] for lie in liars)]) * 2**30).astype(np.int64)
        total, divisor = Median()(rows, [1] * len(rows))
        base = total / divisor / 2**30
        played.append((base, honest))
    return played


def test_statistics_are_those_of_the_known_rows_by_hand(tmp_path: Path) -> None:
    rows = ["30,f", "90,f", "60,f", "?,f", "60,f", "90,m", "60,m"]
    first = own(fitted(tmp_path, *rows), np.zeros(8))
    # 30 and 90 are half of the range away from its middle, 60; of m and x there are too few rows to be told.
    assert first == pytest.approx([0.5 / 6, 5 / 7, 0, 0, np.sqrt(3 * 0.25 / 6), np.sqrt(5 / 7), 0, 0])
    second = own(fitted(tmp_path, *rows), first)
    assert second[4] == pytest.approx(np.std([-0.5, 0.5, 0.5, 0, 0, 0]))


def test_an_owner_s_file_may_be_of_the_task_that_the_constants_are_for(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("years,sex,ill\n" + "40,f,no\n" * 6)
    reading = Reading({"?"}, {"ill": {"unknown"}}, {"age": "years", "diagnosis": "ill"})
    fit = fit_statistics(TOLD, read_tables(tmp_path / "own.csv", ","), reading)
    assert fit.examples is not None and [misfit.column for misfit in fit.misfits] == ["diagnosis", "ill"]


def test_who_knows_too_little_of_a_column_says_nothing_of_it(tmp_path: Path) -> None:
    base = np.linspace(0.1, 0.8, 8)
    told = own(fitted(tmp_path, *["40,f"] * 4, *["?,f"] * 4), base)
    assert told[[0, 4]] == pytest.approx(base[[0, 4]]) and told[1] == 1


ages = st.lists(st.floats(0, 120), min_size=5, max_size=12)
owner = st.tuples(ages, st.lists(st.integers(0, 1), min_size=12, max_size=12))
lie = st.lists(st.lists(st.floats(-4, 4), min_size=8, max_size=8), min_size=2, max_size=2)


@given(owners=st.lists(owner, min_size=3, max_size=3), lies=lie, order=st.permutations(range(3)))
def test_one_liar_of_four_moves_nothing_out_of_the_honest_range(
    tmp_path_factory: pytest.TempPathFactory, owners: Any, lies: Any, order: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("owners")
    honest = [
        fitted(folder, *(f"{age!r},{'fm'[sex]}" for age, sex in zip(own_ages, sexes, strict=False)))
        for own_ages, sexes in owners
    ]
    for base, told in rounds(honest, [lies]):
        assert (told.min(0) - 1e-8 <= base).all() and (base <= told.max(0) + 1e-8).all()
    again = rounds([honest[place] for place in order], [lies])
    assert np.array_equal(again[-1][0], base)
    if base[1:4].max() > 1e-6:
        (age, sex) = with_constants(TABLE, TOLD, base[:4], base[4:]).schema.columns
        means = [60 + 60 * each[0] for each in told]
        assert isinstance(age, NumberColumn) and isinstance(sex, CategoryColumn)
        assert min(means) - 0.6 <= age.mean <= max(means) + 0.6 and age.missing == age.mean
        assert set(sex.categories) == {
            name for name, share in zip(SEX.categories, base[1:4], strict=True) if share > 1e-6
        }


def test_who_has_no_value_of_a_column_adopts_the_others(tmp_path: Path) -> None:
    owners = [fitted(tmp_path, *[f"{age},f"] * 6) for age in ("90", "96", "?")]
    means = [60 + 60 * base[0] for base, _ in rounds(owners, [], 3)]
    assert all(90 <= mean <= 96 for mean in means)
    owners = [fitted(tmp_path, *[f"{age},f"] * 6) for age in ("90", "96", "93", "?")]
    means = [60 + 60 * base[0] for base, _ in rounds(owners, [], 3)]
    assert means == pytest.approx([91.5, 92.25, 92.625])


def test_constants_are_those_of_the_pooled_rows_where_owners_are_alike(tmp_path: Path) -> None:
    numbers = np.random.default_rng(3).normal(54, 9, 4000).clip(0, 120)
    owners = [
        fitted(tmp_path, *(f"{each:.3f},{'fm'[i % 2]}" for i, each in enumerate(part))) for part in np.split(numbers, 4)
    ]
    (*_, (base, _)) = rounds(owners, [])
    draft = with_constants(TABLE, TOLD, base[:4], base[4:])
    age, sex = draft.schema.columns
    assert isinstance(age, NumberColumn) and isinstance(sex, CategoryColumn)
    assert age.mean == pytest.approx(54, abs=0.5) and age.deviation == pytest.approx(9, abs=0.3)
    assert sex.categories == ("f", "m") and "x" in draft.notes["sex"]
    assert len(f"{age.mean:g}") <= 4 and age.least == 0 and age.unit == "years"


def test_a_schema_of_statistics_is_read_as_it_was_written() -> None:
    assert read_schema(TOLD.encode()) == TOLD
    assert b"deviation" not in TOLD.encode()


@pytest.mark.parametrize(
    "column",
    [
        {"kind": "number", "name": "x"},
        {"kind": "number", "name": "x", "least": 0},
        {"kind": "number", "name": "x", "least": 1, "most": 1},
        {"kind": "number", "name": "x", "least": 0, "most": 1, "mean": 0.5},
        {"kind": "category", "name": "x", "categories": ["a"], "missing": True},
    ],
)
def test_statistics_without_bounds_or_with_constants_are_refused(column: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        schema_of({"kind": "statistics", "columns": [column]}, "schema")


DRAFT = """name = "clinics"
model = { method = "logistic_regression@1", params = { inputs = 4, classes = 2 } }
[validation]
offered = ["theirs.csv"]
[ledger]
stake_gwei = 77
[data_schema]
kind = "table"
target = { kind = "classes", name = "ill", classes = ["no", "yes"] }
columns = [
  { kind = "number", name = "age", unit = "years", least = 0, most = 120, missing = 0 },
  { kind = "category", name = "sex", categories = ["f", "m", "x"] },
]
"""


def test_a_task_s_columns_are_asked_for_and_written_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text(DRAFT)
    config = read_task_config(path)
    asked, left_out = statistics_text(config, path)
    statistics = TaskConfig.model_validate(tomllib.loads(asked))
    assert statistics.data_schema == TOLD.model_copy(update={"least_examples": 1}) and not left_out
    assert statistics.ledger.stake_gwei == 77
    assert make_task(statistics, tmp_path).experiment.spec.aggregation.method == "median@1"
    assert isinstance(config.data_schema, TableSchema)
    mean, spread = np.array([-0.1, 0.7, 0.3, 0]), np.array([0.1, 0.5, 0.5, 0])
    draft = with_constants(config.data_schema, TOLD, mean, spread)
    written = text_with(DRAFT, config, draft, path)
    path.write_text(written)
    again = read_task_config(path)
    assert again.data_schema == draft.schema and again.model is not None and again.model.params["inputs"] == 3
    assert "mean = 54.0, deviation = 6.0, missing = 54.0" in written and "'x'" in written
    for odd in (DRAFT.replace("columns = [\n", "columns = ["), DRAFT.replace("\n]", " ]")):
        with pytest.raises(ConfigError, match="Write these instead"):
            text_with(odd, TaskConfig.model_validate(tomllib.loads(odd)), draft, path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('objective = { method = "column_statistics@1" }', 'objective = { method = "regression@1" }', "output"),
        ("columns = 4 }", "columns = 5 }", "columns = 4"),
        (
            'model = { method = "column_statistics@1", params = { columns = 4 } }',
            'model = { method = "logistic_regression@1", params = { inputs = 4, classes = 2 } }',
            "column_statistics@1",
        ),
        ("least = 0.0", "least = 120.0", "most above it"),
        ('kind = "statistics"', 'kind = "table"\ntarget = { kind = "number" }', "no validation examples"),
    ],
)
def test_a_round_of_statistics_that_cannot_be_is_refused_in_a_sentence(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    path = tmp_path / "task.toml"
    path.write_text(DRAFT)
    text, _ = statistics_text(read_task_config(path), path)
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=told):
        make_task(read_task_config(path), tmp_path)


def test_nobody_tells_statistics_of_what_is_no_column() -> None:
    flat = FlatModel(build_model("column_statistics@1", {"columns": 4}))
    classes = Dataset(np.zeros((6, 4), np.float32), np.arange(6) % 2, 2)
    tell = build_solver("column_statistics@1", {})
    with pytest.raises(ConfigError, match="data schema of statistics"):
        tell(flat, flat.vector(), classes, np.random.default_rng(0), BLANK, CLASSIFICATION.loss)


NODE = '[data]\ntable = "own.csv"\n'


def test_owners_find_constants_though_one_lies_and_everybody_can_replay_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = caller(monkeypatch, capsys)

    def document(*words: object) -> Any:
        code, out, told = call(*words, "--format", "json")
        assert code == 0, told
        return json.loads(out)

    with consortium(tmp_path, 4) as made:
        place, ledger = made.publisher.place, made.publisher.place[:4]
        monkeypatch.chdir(made.publisher.folder)
        document("task", "draft", "--data", "own.csv", "--label", LABEL, "--hold-out", 0.5)
        task, statistics = Path("task.toml"), Path("statistics.toml")
        code, _, told = call("task", "statistics", task)
        assert code == ExitCode.CONFIG and "least and most" in told
        # A publisher that knows bounds and no constants.
        known = re.sub(r"mean = [^,]*, deviation = [^,]*", "least = 0.0, most = 5000.0", task.read_text())
        known = known.replace("challenge_window = 3600", "challenge_window = 0")
        task.write_text(known.replace("penalty_gwei = 500000", "penalty_gwei = 0"))
        assert document("task", "statistics", task)["left_out"] == []
        statistics.write_text(statistics.read_text().replace("max_participants = 100", "max_participants = 4"))
        liar = made.owners[-1].folder / "own.csv"
        header, *lines = liar.read_text().splitlines()
        liar.write_text("\n".join([header, *("5000," * 30 + line[-1] for line in lines)]) + "\n")
        posted = document("task", "post", statistics, *place)
        assert posted["validation"]["examples"] == 1
        for number, owner in enumerate(made.owners):
            (owner.folder / "node.toml").write_text(NODE)
            if not number:
                told = document("node", "check", owner.folder / "node.toml", *place)
                assert told["fits"] and "the mean and the spread" in told["published"]
            owner.start("node", "start", "node.toml", "--experiment-seed", 0, "--participant", number, "--poll", 0.1)
        done = document("aggregator", "start", "--experiment-seed", 0, "--poll", 0.1, *place)
        assert done["ended"] and done["rounds"] == 3
        audited = document("audit", *place)
        assert audited["reproduced"] and audited["measured"]
        found = document("task", "constants", task, *place)["columns"]
        assert document("task", "check", task, *ledger)["validation"]["examples"] == 45
        assert all("updates were accepted" in owner.ended() for owner in made.owners)
    for owner in made.owners:
        assert not rows_elsewhere(tmp_path, owner.folder)
    tables = [np.genfromtxt(owner.folder / "own.csv", delimiter=",", names=True) for owner in made.owners]
    assert len(found) == 30
    for name, column in found.items():
        means = [table[name].mean() for table in tables]
        middle = np.median(means)
        spreads = [np.sqrt(np.square(table[name] - middle).mean()) for table in tables]
        # A constant has three digits.
        assert column["mean"] == column["missing"] == pytest.approx(middle, rel=6e-3, abs=1e-3)
        assert column["deviation"] == pytest.approx(np.median(spreads), rel=6e-3, abs=1e-3)
        assert min(means[:3]) - 1e-3 <= column["mean"] * 1.006 and column["mean"] * 0.994 <= max(means[:3]) + 1e-3
        assert column["most"] == 5000
