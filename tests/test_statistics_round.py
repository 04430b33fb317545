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
from fedledger.contracts.ledger.history import History
from fedledger.learning.data import Dataset
from fedledger.learning.models.base import build_model
from fedledger.learning.objectives.classification import CLASSIFICATION
from fedledger.learning.schemas.columns import Reading
from fedledger.learning.schemas.statistics import fit_statistics, require_statistics, with_constants
from fedledger.learning.sources.tables import read_tables
from fedledger.learning.vectors import FlatModel
from fedledger.node.own_data import NodeConfig, OwnData
from fedledger.node.own_examples import own_examples
from fedledger.node.solvers.base import BLANK
from fedledger.node.solvers.build import build_solver
from fedledger.node.solvers.column_statistics import own_statistics, steps
from fedledger.platform.cli.context import open_ledger
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.posted_task import found_constants, read_data_schema
from fedledger.platform.experiment.statistics_draft import statistics_text, text_with
from fedledger.platform.experiment.task_config import TaskConfig, make_task, read_task_config
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.protocol.methods.catalogue import Method, VectorSpec
from fedledger.protocol.records.data_schema import (
    CategoryColumn,
    ClassTarget,
    NumberColumn,
    StatisticsSchema,
    TableSchema,
    read_schema,
    schema_of,
)
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.spec import TaskSpec
from fedledger.storage.local import LocalStore
from support.command_line import caller
from support.consortium import LABEL, consortium
from support.rows import rows_elsewhere

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


def test_statistics_are_those_of_the_known_rows_in_steps_by_hand(tmp_path: Path) -> None:
    rows = ["30,f", "90,f", "45,f", "75,f", "90,f", "60,m", "60,m", "?,m", "?,m", "?,m"]
    first = own(fitted(tmp_path, *rows), np.zeros(8))
    # Of 7 ages the mean, 1/14, is told in steps of 1/4; their deviation, 0.346, as 11/32. Half of the rows are f.
    assert first.tolist() == pytest.approx([0, 0.5, 0.5, 0, 11 / 32, 0.5**0.5, 0.5**0.5, 0])
    second = own(fitted(tmp_path, *rows), [0.25, 0, 0, 0, 0, 0, 0, 0])
    assert second[4] == pytest.approx(np.hypot(11 / 32, 0.25))


codes = st.lists(st.sampled_from([0.0, 3.0, 60.0, 120.0]), min_size=9, max_size=60)


@given(common=st.sampled_from([0, 3]), others=st.lists(st.integers(0, 120), max_size=4), count=st.integers(5, 60))
def test_nothing_is_told_of_fewer_than_five_rows(
    tmp_path_factory: pytest.TempPathFactory, common: int, others: list[int], count: int
) -> None:
    folder = tmp_path_factory.mktemp("owner")
    rows = [*[f"{common},f"] * count, *(f"{each},m" for each in others)]
    base = np.linspace(0.1, 0.8, 8)
    alike = own(fitted(folder, *[f"{common},f"] * len(rows)), base)
    assert np.array_equal(own(fitted(folder, *rows), base), alike) and np.array_equal(alike[[0, 4]], base[[0, 4]])


@given(ages=codes, one=st.floats(0, 120), bases=st.lists(st.floats(-9, 9), min_size=2, max_size=4))
def test_one_row_moves_what_is_told_by_few_steps_and_no_base_tells_more(
    tmp_path_factory: pytest.TempPathFactory, ages: list[float], one: float, bases: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("owner")
    tables = [fitted(folder, *(f"{age!r},f" for age in each)) for each in (ages, [*ages, one])]
    if not all(table.targets[:, 0].all() for table in tables):
        return
    means = [own(table, np.zeros(8))[0] for table in tables]
    step = float(steps(np.array([len(ages)], np.float64))[0])
    assert abs(means[0] - means[1]) <= 3 * step and step <= 2 / len(ages) + 2**-10
    for table, mean in zip(tables, means, strict=True):
        squares = []
        for base in bases:
            told = own(table, [base, *[0] * 7])
            assert told[0] == mean
            squares.append(told[4] ** 2 - (mean - np.clip(base, -1, 1)) ** 2)
        assert np.ptp(squares) < 1e-12


@given(count=st.integers(5, 3000), share=st.floats(0, 1))
def test_a_category_of_five_rows_stays_one_and_its_share_is_all_that_is_told(count: int, share: float) -> None:
    held = np.zeros((count, 1), np.float32)
    held[: max(5, round(share * count))] = 1
    mean, spread = own_statistics(held, np.ones_like(held), np.zeros(2))
    assert 0 < mean <= 1 and abs(mean - held.mean()) <= max(1 / count, 2**-10)
    assert spread == pytest.approx(np.sqrt(mean))


def test_an_owner_s_file_may_be_of_the_task_that_the_constants_are_for(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("years,sex,ill\n" + "40,f,no\n90,m,no\n" * 6)
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


def around(age: float) -> list[str]:
    return [f"{age + distance},f" for distance in (-6, -3, 3, 6)] * 2


def test_who_has_no_value_of_a_column_adopts_the_others(tmp_path: Path) -> None:
    unknown = fitted(tmp_path, *["?,f"] * 6)
    owners = [fitted(tmp_path, *around(age)) for age in (90, 97.5, 105)]
    means = [60 + 60 * base[0] for base, _ in rounds([*owners[:2], unknown], [], 3)]
    assert all(90 <= mean <= 97.5 for mean in means)
    means = [60 + 60 * base[0] for base, _ in rounds([*owners, unknown], [], 3)]
    assert means == pytest.approx([93.75, 95.625, 96.5625])


def test_constants_are_those_of_the_pooled_rows_where_owners_are_alike(tmp_path: Path) -> None:
    numbers = np.random.default_rng(3).normal(54, 9, 4000).clip(0, 120)
    owners = [
        fitted(tmp_path, *(f"{each:.3f},{'fm'[i % 2]}" for i, each in enumerate(part))) for part in np.split(numbers, 4)
    ]
    (*_, (base, _)) = rounds(owners, [])
    draft = with_constants(TABLE, TOLD, base[:4], base[4:])
    age, sex = draft.schema.columns
    assert isinstance(age, NumberColumn) and isinstance(sex, CategoryColumn)
    assert age.mean == pytest.approx(54, abs=0.5) and age.deviation == pytest.approx(9, rel=1 / 16)
    assert sex.categories == ("f", "m") and "x" in draft.notes["sex"]
    assert len(f"{age.mean:g}") <= 4 and age.least == 0 and age.unit == "years"


def test_columns_of_which_little_was_found_are_told() -> None:
    noted = {}
    for mean, spread in ((0.0, 0.0), (0.0, 0.2), (0.1, 0.005), (0.1, 0.2)):
        found = with_constants(TABLE, TOLD, np.array([mean, 0.7, 0.3, 0.1]), np.array([spread, 0.5, 0.5, 0.3]))
        noted[mean, spread] = found.notes.get("age", "")[:9]
    assert list(noted.values()) == ["no spread", "its mean ", "its bound", ""]


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


SGD = {"method": "sgd@1", "params": {"learning_rate": 1.0, "local_epochs": 1}}
PERCEPTRON = {"method": "mlp@1", "params": {"inputs": 4, "hidden": [64], "classes": 4}}


def posted_statistics(folder: Path, store: LocalStore) -> Experiment:
    path = folder / "task.toml"
    path.write_text(DRAFT)
    config = TaskConfig.model_validate(tomllib.loads(statistics_text(read_task_config(path), path)[0]))
    experiment = make_task(config, folder).experiment
    experiment.publish(store)
    return experiment


def test_what_could_tell_more_than_statistics_is_refused_by_owners(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    spec = posted_statistics(tmp_path, store).spec
    (tmp_path / "own.csv").write_text("age,sex\n" + "40,f\n50,m\n" * 6)
    mine = NodeConfig(data=OwnData(table="own.csv"))
    assert own_examples(mine, tmp_path, TOLD, spec, store).published
    wide = np.zeros(4, np.float32), np.full(4, 3, np.float32)
    far = ModelFile.of({"mean": wide[0], "spread": wide[1]}).encode()
    store.put(far)
    changes: list[dict[str, Any]] = [
        {"solver": Method(**SGD)},
        {"model": Method(method="column_statistics@1", params={"columns": 3})},
        {"objective": Method(method="regression@1")},
        {"transforms": [Method(method="clip@1", params={"norm": 1.0})]},
        {"payload": [VectorSpec(name="delta", codec=Method(method="dense@1"))]},
        {"vectors": ["rows"]},
        {"code": Ref.of(ContentRef.of(b""))},
        {"initial_model": Ref.of(ContentRef.of(far))},
    ]
    for change in changes:
        changed = spec.model_copy(update=change)
        with pytest.raises(ConfigError, match=f"{next(iter(change))} of the task could tell whole rows"):
            require_statistics(TOLD, changed, ModelFile.decode(store.get(changed.initial_model.ref)))
    for change in (changes[0], changes[-1]):
        with pytest.raises(ConfigError, match="could tell whole rows"):
            own_examples(mine, tmp_path, TOLD, spec.model_copy(update=change), store)


def test_nobody_posts_a_schema_of_statistics_for_training(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text(DRAFT)
    document = tomllib.loads(statistics_text(read_task_config(path), path)[0])
    document["model"] = PERCEPTRON
    document["training"] |= {"objective": {"method": "multilabel@1", "params": {"score": "f1"}}, "solver": SGD}
    with pytest.raises(ConfigError, match="model, objective, solver of the task could tell whole rows"):
        make_task(TaskConfig.model_validate(document), tmp_path)


def test_nobody_tells_statistics_of_what_is_no_column() -> None:
    flat = FlatModel(build_model("column_statistics@1", {"columns": 4}))
    classes = Dataset(np.zeros((6, 4), np.float32), np.arange(6) % 2, 2)
    tell = build_solver("column_statistics@1", {})
    with pytest.raises(ConfigError, match="data schema of statistics"):
        tell(flat, flat.vector(), classes, np.random.default_rng(0), BLANK, CLASSIFICATION.loss)


def require_settled_alone(history: History, folder: Path) -> None:
    """Constants are the last settled round's: while the next one is only proposed, nobody reads its model."""
    logs, whole, part = history.since((history.folds, 0)), LocalStore(folder), LocalStore(folder.parent / "part")
    assert logs is not None
    place = [number for number, log in enumerate(logs) if log.event in {"BatchProposed", "RoundProposed"}][-1]
    task = History().extend(logs[: place + 1]).task(1)
    spec = TaskSpec.decode(whole.get(task.spec))
    assert spec.data_schema is not None and len(task.counted) == 2 and task.model == history.task(1).model
    before = task.rounds[2].proposal
    assert before is not None and before.model != task.model
    for ref in (task.spec, spec.data_schema.ref, spec.initial_model.ref, before.model):
        part.put(whole.get(ref))
    told = read_data_schema(spec, part)
    assert isinstance(told, StatisticsSchema)
    found_constants(History().extend(logs[: place + 1]), part, 1, TableSchema(columns=told.columns, target=ILL))


def bounds(tables: list[Path]) -> dict[str, float]:
    """A bound of each column, of which the largest number in all tables is at least half."""
    read = [np.genfromtxt(table, delimiter=",", names=True) for table in tables]
    largest = {name: max(float(each[name].max()) for each in read) for name in (read[0].dtype.names or ())[:-1]}
    return {name: float(2 ** np.ceil(np.log2(number))) for name, number in largest.items()}


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
        most = bounds([owner.folder / "own.csv" for owner in (made.publisher, *made.owners)])
        known = re.sub(
            r'name = "([^"]*)"(.*?)mean = [^,]*, deviation = [^,]*',
            lambda column: f'name = "{column[1]}"{column[2]}least = 0.0, most = {most[column[1]]}',
            task.read_text(),
        )
        known = known.replace("challenge_window = 3600", "challenge_window = 0")
        task.write_text(known.replace("penalty_gwei = 500000", "penalty_gwei = 0"))
        assert document("task", "statistics", task)["left_out"] == []
        statistics.write_text(statistics.read_text().replace("max_participants = 100", "max_participants = 4"))
        liar = made.owners[-1].folder / "own.csv"
        header, *lines = liar.read_text().splitlines()
        cells = [",".join(str(share * one) for one in most.values()) for share in (0.75, 1)]
        liar.write_text("\n".join([header, *(f"{cells[i % 2]},{line[-1]}" for i, line in enumerate(lines))]) + "\n")
        few = header.split(",")[-2]
        for owner in made.owners[1:3]:
            table = owner.folder / "own.csv"
            head, *rows = [line.split(",") for line in table.read_text().splitlines()]
            table.write_text("\n".join(map(",".join, [head, *([*row[:-2], "", row[-1]] for row in rows)])) + "\n")
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
        constants = document("task", "constants", task, *place)
        assert (constants["settled"], constants["rounds"]) == (3, 3)
        assert constants["notes"] == {few: "only 2 of 4 participants told something of it, too few against a liar"}
        found = constants["columns"]
        require_settled_alone(History(open_ledger(place[1], Path(place[3]), False)).update(), tmp_path / "store")
        assert document("task", "check", task, *ledger)["validation"]["examples"] == 45
        assert all("updates were accepted" in owner.ended() for owner in made.owners)
    for owner in made.owners:
        assert not rows_elsewhere(tmp_path, owner.folder)
    tables = [np.genfromtxt(owner.folder / "own.csv", delimiter=",", names=True) for owner in made.owners]
    assert len(found) == 30
    for name in found.keys() - {few}:
        column = found[name]
        means = [table[name].mean() for table in tables]
        middle = np.median(means)
        spread = np.median([np.sqrt(np.square(table[name] - middle).mean()) for table in tables])
        # What an owner of 90 rows tells is off by half a step, 1 / 128 of half the range, and a spread by a sixteenth.
        half = most[name] / 2
        assert column["mean"] == column["missing"] == pytest.approx(middle, abs=half / 128 + middle * 6e-3)
        assert column["deviation"] == pytest.approx(spread, abs=half / 64 + spread / 16)
        assert min(means[:3]) - half / 120 <= column["mean"] * 1.006
        assert column["mean"] * 0.994 <= max(means[:3]) + half / 120
        assert column["most"] == most[name]
