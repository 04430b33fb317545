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
from fedledger.learning.equal_examples import example_keys, without
from fedledger.learning.schemas.offered import MAX_BYTES, chosen_rows, read_offered
from fedledger.node.own_data import NodeConfig, OwnData
from fedledger.node.own_examples import offer_rows, own_examples
from fedledger.platform.experiment.task_config import TaskConfig, make_task
from fedledger.platform.experiment.task_validation import validation_examples
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.protocol.records.data_schema import CategoryColumn, ClassTarget, NumberColumn, NumberTarget, TableSchema
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


@given(own=examples, held=examples, order=st.randoms(use_true_random=False))
def test_own_examples_that_are_held_out_are_those_that_are_equal_in_any_order(own: Any, held: Any, order: Any) -> None:
    mixed = list(held)
    order.shuffle(mixed)
    keys = [set(example_keys(each.inputs, each.targets)) for each in map(dataset, (held, mixed))]
    assert keys[0] == keys[1]
    kept = without(dataset(own), keys[0])
    expected = [row for row in own if row not in held]
    assert kept.inputs.tolist() == [list(np.float32(row[:2]).tolist()) for row in expected]
    assert kept.targets.tolist() == [row[2] for row in expected]


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
    mine = NodeConfig(data=OwnData(table="own.csv"))
    own = own_examples(mine, tmp_path, schema, experiment.spec, store)
    assert own.left_out == 4 and own.fit.required().targets.tolist() == [7.5, 9, 10.5, 12, 13.5]
    more = schema.model_copy(update={"least_examples": 6})
    few = own_examples(mine, tmp_path, more, experiment.spec, store)
    with pytest.raises(ConfigError, match="5 examples are left without the 4 that are held out"):
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
    assert [caution for caution in experiment.cautions() if "1 of the inputs' 9 numbers" in caution]
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
