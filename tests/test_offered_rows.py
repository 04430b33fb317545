"""Rows that owners offer for a validation set: drawn fairly, read strictly, counted once, and not trained on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.learning.data import Dataset
from fedledger.learning.equal_examples import example_keys
from fedledger.learning.schemas.arrays import fit_arrays
from fedledger.learning.schemas.columns import Reading
from fedledger.learning.schemas.fit import Fit
from fedledger.learning.schemas.offered import MAX_BYTES, chosen_rows, read_offered, write_offered
from fedledger.learning.schemas.statistics import fit_statistics
from fedledger.learning.schemas.tables import fit_tables
from fedledger.learning.sources.tables import read_tables
from fedledger.node.held_out import HeldOut
from fedledger.node.own_data import NodeConfig, OwnData
from fedledger.node.own_examples import offer_rows, own_examples
from fedledger.node.training import TrainingContext
from fedledger.platform.experiment.cautions import cautions
from fedledger.platform.experiment.task_config import TaskConfig, make_task
from fedledger.platform.experiment.task_validation import validation_examples
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.protocol.records.data_schema import (
    ArraySchema,
    CategoryColumn,
    ClassTarget,
    NumberColumn,
    NumberTarget,
    StatisticsSchema,
    TableSchema,
)
from fedledger.storage.local import LocalStore
from support.command_line import caller
from support.consortium import Consortium, consortium

AGE = NumberColumn(name="age", least=0, most=120, mean=50, deviation=10, missing=50)
PAIN = CategoryColumn(name="pain", categories=("none", "=1+1"), missing=True)
ILL = ClassTarget(name="ill", classes=("no", "yes"))
SCHEMA = TableSchema(columns=(AGE, PAIN), target=ILL, least_examples=3)
OWN = NodeConfig(data=OwnData(table="own.csv", missing=("?",), columns={"pain": "Schmerz"}))

numbers = st.sampled_from([0.0, -0.0, 1.0, -1.5, 1e-30])
examples = st.lists(st.tuples(numbers, numbers, st.integers(0, 1)), max_size=12)


def dataset(rows: list[tuple[float, float, int]]) -> Dataset:
    inputs = np.array([row[:2] for row in rows], np.float32).reshape(len(rows), 2)
    return Dataset(inputs, np.array([row[2] for row in rows], np.int64), 2)


def keys_of(examples: Dataset) -> Counter[bytes]:
    return Counter(example_keys(examples.inputs, examples.targets))


def keys(rows: list[tuple[float, float, int]]) -> Counter[bytes]:
    return keys_of(dataset(rows))


@given(own=examples, public=examples, offered=examples, order=st.randoms(use_true_random=False))
def test_each_validation_row_holds_out_one_equal_row_in_any_order(
    own: Any, public: Any, offered: Any, order: Any
) -> None:
    mixed = list(public)
    order.shuffle(mixed)
    assert keys(public) == keys(mixed)
    held = HeldOut.of(dataset(own), keys(offered), keys(mixed), 1)
    kept = held.fit_without(Fit(dataset(own), len(own)), 0)
    left = keys(public) | keys(offered)
    assert keys_of(kept.required()) == keys(own) - left
    assert kept.count == len(own) - len(held) and held.equal == len(held.others)


@given(own=examples, public=examples, offered=examples, share=st.floats(0, 1))
def test_others_hold_out_a_share_at_most_and_no_count_tells_how_much(
    own: Any, public: Any, offered: Any, share: float
) -> None:
    held = HeldOut.of(dataset(own), keys(offered), keys(public), share)
    without = HeldOut.of(dataset(own), keys(offered), Counter(), share)
    assert len(held.others) <= np.ceil(share * len(own))
    assert np.array_equal(held.offered, without.offered)
    fit = held.fit_without(Fit(dataset(own), len(own)), 1)
    if fit.examples is not None:
        trained = [each.filled(each.fit_without(Fit(dataset(own), len(own)), 1).required()) for each in (held, without)]
        assert len(trained[0]) == len(trained[1])
        assert {*keys_of(trained[0])} == {*keys_of(fit.required())}
    assert bool(held.equal > len(held.others)) == any("most_held_out" in each.remedy for each in fit.misfits)


@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=4), share=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_each_class_is_offered_by_its_share(counts: list[int], share: float, seed: int) -> None:
    classes = np.repeat(np.arange(len(counts)), counts)
    whole = Dataset(np.arange(len(classes), dtype=np.float32)[:, None], classes, len(counts))
    count = round(share * len(classes))
    try:
        chosen = chosen_rows(whole, count, np.random.default_rng(seed))
    except ConfigError:
        return
    assert len(set(chosen.tolist())) == count
    taken = Counter(classes[chosen].tolist())
    for number, size in enumerate(counts):
        assert abs(taken[number] - count * size / len(classes)) < 2


def written(folder: Path, *rows: str, name: str = "own.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def own_table(folder: Path, rows: int = 40) -> None:
    lines = [
        f"n{i},{'?' if i == 3 else 30 + i},{'none' if i % 3 else '?'},{'yes' if i % 2 else 'no'}" for i in range(rows)
    ]
    written(folder, "name,age,Schmerz,ill", *lines)


def test_an_offer_is_rows_in_the_task_s_words_and_no_row_is_offered_twice(tmp_path: Path) -> None:
    own_table(tmp_path)
    paths, texts = [], ""
    for _ in range(3):
        path, offered = offer_rows(OWN, tmp_path, SCHEMA, 10)
        paths.append(path)
        texts += path.read_text()
        assert len(offered) == 10 and sorted(np.bincount(offered.targets)) == [5, 5]
        assert path.read_text().startswith("age,pain,ill\n") and "?" not in path.read_text()
        read = read_offered(path, SCHEMA)
        assert np.array_equal(read.inputs, offered.inputs) and np.array_equal(read.targets, offered.targets)
    assert "n1" not in texts and len(set(paths)) == 3
    together, sources = validation_examples(None, [str(path) for path in paths], tmp_path, SCHEMA)
    assert len(together) == 30 and all(source.repeated == 0 for source in sources)
    with pytest.raises(ConfigError, match="some have to be left"):
        offer_rows(OWN, tmp_path, SCHEMA, 10)


def test_of_equal_rows_in_several_files_one_counts_and_it_is_told(tmp_path: Path) -> None:
    written(tmp_path, "age,pain,ill", "40,none,no", "50,,yes", "40.0,none,no", name="mine.csv")
    written(tmp_path, "ill,pain,age", "no,none,40", "yes,none,41", "yes,none,41.0", name="a.csv")
    written(tmp_path, "age,pain,ill", "41,none,yes", "42,none,no", name="b.csv")
    together, sources = validation_examples(OwnData(table="mine.csv"), ["a.csv", "b.csv"], tmp_path, SCHEMA)
    assert [(source.examples, source.repeated) for source in sources] == [(3, 0), (1, 2), (1, 1)]
    assert len(together) == 5 and sources[1].classes == {"1": 1}
    assert "2 more were there already" in sources[1].line()
    with pytest.raises(ConfigError, match=r"All rows that b.csv offers"):
        validation_examples(OwnData(table="mine.csv"), ["a.csv", "b.csv", "b.csv"], tmp_path, SCHEMA)


def test_an_offer_of_every_row_there_can_be_is_told(tmp_path: Path) -> None:
    every = [f"{age},{pain},{ill}" for age in (0, 60) for pain in ("none", "=1+1", "") for ill in ("no", "yes")]
    written(tmp_path, "age,pain,ill", *(f"{30 + i},none,{'yes' if i % 2 else 'no'}" for i in range(9)), name="mine.csv")
    written(tmp_path, "age,pain,ill", *every, name="every.csv")
    written(tmp_path, "age,pain,ill", "41,none,yes", "42,none,no", "43,none,no", "38,none,no", name="own.csv")
    _, (mine, all_rows, some) = validation_examples(
        OwnData(table="mine.csv"), ["every.csv", "own.csv"], tmp_path, SCHEMA
    )
    assert "12 of its 12 rows have the same inputs as others" in all_rows.line()
    assert (mine.common, some.common) == (0, 1) and "inputs" not in some.line()


HEADER = "age,pain,ill"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([HEADER + ",name", "40,none,no,Ann", "41,none,yes,Bob"], "not the task's: 'name'"),
        (["age,ill", "40,no", "41,yes"], "no column 'pain'"),
        ([HEADER, "400,none,no", "41,none,yes"], "outside the task's bounds"),
        ([HEADER, "=40+2,none,no", "41,none,yes"], "not a number"),
        ([HEADER, "40,=2+2,no", "41,none,yes"], "no category of the task"),
        ([HEADER, "40,none,@SUM(A1)", "41,none,yes"], "no class of the task"),
        ([HEADER, "inf,none,no", "41,none,yes"], "not a number"),
        ([HEADER, "40,none,no", "41,none,no"], "one class alone"),
        ([HEADER, *["40,none,no"] * (MAX_BYTES // 8)], "are the limit"),
        ([HEADER], "no rows"),
        ([HEADER, "40,none"], "2 cells under 3 names"),
        ([HEADER, '"' + "x" * 200_000 + '",none,no'], "field larger"),
        ([HEADER, "40,no\0ne,no", "41,none,yes"], "NUL"),
    ],
)
def test_a_hostile_offer_is_refused_and_its_file_is_named(tmp_path: Path, rows: list[str], told: str) -> None:
    written(tmp_path, *rows, name="theirs.csv")
    with pytest.raises(ConfigError, match=r"theirs\.csv") as raised:
        validation_examples(None, ["theirs.csv"], tmp_path, SCHEMA)
    assert told in str(raised.value) and len(str(raised.value)) < 1000


def test_few_bytes_make_no_more_numbers_than_there_may_be(tmp_path: Path) -> None:
    """Width and height, categories and windows are the task's, so that whoever posts it chooses how much they make."""
    codes = CategoryColumn(name="pain", categories=("none", *map(str, range(4095))))
    wide = TableSchema(columns=(codes,), target=ILL)
    written(tmp_path, "pain,ill", *["none,no", "none,yes"] * 2049, name="theirs.csv")
    with pytest.raises(ConfigError, match=r"theirs\.csv make 16,785,408 inputs"):
        read_offered(tmp_path / "theirs.csv", wide)
    with pytest.raises(ConfigError, match="The chosen rows make"):
        write_offered(tmp_path / "mine.csv", wide, read_tables(tmp_path / "theirs.csv", ","), Reading(), range(4098))
    assert not (tmp_path / "mine.csv").exists()
    columns = tuple(codes.model_copy(update={"name": f"pain{number}"}) for number in range(256))
    written(tmp_path, ",".join(column.name for column in columns), *[",".join(["none"] * 256)] * 600, name="many.csv")
    tables = read_tables(tmp_path / "many.csv", ",")
    for fit in (
        lambda: fit_tables(TableSchema(columns=columns, target=ILL), tables, Reading()),
        lambda: fit_statistics(StatisticsSchema(columns=columns), tables, Reading()),
        lambda: fit_arrays(ArraySchema(shape=(1, 1024, 1024), resize="area", classes=2), pictures(512, 100)),
        lambda: fit_arrays(ArraySchema(shape=(1, 1024, 1024), resize="area", classes=2), pictures(1, 8)),
    ):
        with pytest.raises(ConfigError, match=r"are the limit|16 times as long"):
            fit()


def pictures(count: int, size: int) -> Dataset:
    return Dataset(np.zeros((count + 1, 1, size, size), np.float32), np.zeros(count + 1, np.int64), 2)


def test_an_offer_is_a_file_and_a_validation_set_has_examples(tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").mkdir()
    for offered, told in ((["theirs.csv"], "no table"), (["none.csv"], "no table"), ([], "no validation examples")):
        with pytest.raises(ConfigError, match=told):
            validation_examples(None, offered, tmp_path, SCHEMA)


def test_numbers_to_predict_are_held_out_as_well(tmp_path: Path) -> None:
    schema = TableSchema(columns=(AGE, PAIN), target=NumberTarget(name="cost"), least_examples=3)
    rows = [f"{30 + i},none,{i * 1.5}" for i in range(12)]
    written(tmp_path, "age,pain,cost", *rows[:5], name="held.csv")
    written(tmp_path, "age,pain,cost", *rows[2:10], rows[3])
    config = {
        "name": "costs",
        "model": {"method": "logistic_regression@1", "params": {"inputs": 3, "classes": 1}},
        "training": {"objective": {"method": "regression@1"}},
        "validation": {"data": {"table": "held.csv"}},
        "data_schema": schema.model_dump(),
    }
    experiment = make_task(TaskConfig.model_validate(config), tmp_path).experiment
    store = LocalStore(tmp_path / "store")
    experiment.publish(store)
    mine = NodeConfig(data=OwnData(table="own.csv"), most_held_out=0.5)
    own = own_examples(mine, tmp_path, schema, experiment.spec, store)
    # Of two rows that are equal to one of the validation set one stays.
    assert own.left_out == 3 and own.fit.required().targets.tolist() == [7.5, 9, 10.5, 12, 13.5, 4.5]
    assert own.trainer()(TrainingContext(experiment.spec, 1, "0x" + "11" * 20, experiment.initial, None)).examples == 9
    careful = own_examples(NodeConfig(data=OwnData(table="own.csv")), tmp_path, schema, experiment.spec, store)
    assert careful.left_out == 1 and "3 of 9 examples are also in" in careful.fit.misfits[-1].problem
    more = schema.model_copy(update={"least_examples": 7})
    few = own_examples(mine, tmp_path, more, experiment.spec, store)
    with pytest.raises(ConfigError, match="6 examples are left without the 3 that are held out"):
        few.trainer()


def test_inputs_that_replayable_training_cuts_are_counted(tmp_path: Path) -> None:
    far = AGE.model_copy(update={"deviation": 1.0})
    schema = TableSchema(columns=(far, PAIN), target=NumberTarget(name="cost"), least_examples=3)
    written(tmp_path, "age,pain,cost", "40,none,3", "60,none,5", "70,none,6", name="held.csv")
    written(tmp_path, "age,pain,cost", "50,none,4", "67,none,5", "20,none,6", "34,none,6")
    solver = {"method": "replayable_sgd@1", "params": {"learning_rate": 0.1, "local_epochs": 1}}
    config = {
        "name": "costs",
        "model": {"method": "logistic_regression@1", "params": {"inputs": 3, "classes": 1}},
        "training": {"objective": {"method": "regression@1"}, "solver": solver},
        "validation": {"data": {"table": "held.csv"}},
        "data_schema": schema.model_dump(),
    }
    experiment = make_task(TaskConfig.model_validate(config), tmp_path).experiment
    assert [caution for caution in cautions(experiment) if "1 of the inputs' 9 numbers" in caution]
    store = LocalStore(tmp_path / "store")
    experiment.publish(store)
    own = own_examples(NodeConfig(data=OwnData(table="own.csv")), tmp_path, schema, experiment.spec, store)
    told = [misfit.problem for misfit in own.fit.misfits if not misfit.is_serious]
    assert any("2 of the inputs' 12 numbers are beyond ±16" in problem for problem in told)
    own.trainer()


def test_owners_offer_rows_before_a_task_is_posted_and_do_not_train_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = caller(monkeypatch, capsys)
    with consortium(tmp_path, 2) as made:
        _draft(made)
        offered = []
        for number, owner in enumerate(made.owners):
            (owner.folder / "node.toml").write_text('[data]\ntable = "own.csv"\n')
            monkeypatch.chdir(owner.folder)
            code, out, _ = call(
                "node",
                "offer",
                "node.toml",
                "--examples",
                8 + number,
                "--draft",
                "../publisher/task.toml",
                "--format",
                "json",
            )
            assert code == 0
            told = json.loads(out)
            assert told["examples"] == 8 + number and sum(told["classes"].values()) == 8 + number
            content = Path(told["file"]).read_bytes()
            offered.append(made.publisher.folder / f"theirs{number}.csv")
            offered[-1].write_bytes(content)
        monkeypatch.chdir(made.publisher.folder)
        task = Path("task.toml")
        task.write_text(
            task.read_text().replace("[validation]\n", '[validation]\noffered = ["theirs0.csv", "theirs1.csv"]\n')
        )
        place = made.owners[0].place
        code, out, _ = call("task", "check", "task.toml", *place[:4])
        assert code == 0 and "theirs1.csv: 9 examples" in out
        code, out, _ = call("task", "post", "task.toml", *place, "--format", "json")
        assert code == 0
        posted = json.loads(out)["validation"]
        assert posted["examples"] == 45 + 8 + 9
        assert [source["examples"] for source in posted["sources"]] == [45, 8, 9]
        for number, owner in enumerate(made.owners):
            monkeypatch.chdir(owner.folder)
            code, out, _ = call("node", "check", "node.toml", *place, "--format", "json")
            found = json.loads(out)
            assert code == 0 and found["held_out"] == 8 + number and found["examples"] == 90 - 8 - number
            # A posted task's own schema serves as well, and what is too much is refused.
            code, _, error = call("node", "offer", "node.toml", "--examples", 90, *place)
            assert code == ExitCode.CONFIG and "left to train on" in error
        code, _, error = call("node", "offer", "node.toml", "--examples", 5)
        assert code == ExitCode.CONFIG and "Name one task" in error


def _draft(made: Consortium) -> None:
    made.publisher.cli("task", "draft", "--data", "own.csv", "--label", "malignant", "--hold-out", 0.5, where=False)
    path = made.publisher.folder / "task.toml"
    text = path.read_text().replace("challenge_window = 3600", "challenge_window = 0")
    path.write_text(text.replace("penalty_gwei = 500000", "penalty_gwei = 0"))
