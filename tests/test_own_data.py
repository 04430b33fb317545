"""One's own tables and arrays under a task's data schema: all parties make the same inputs, and misfits are told."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.learning.data import Dataset
from fedledger.learning.schemas.arrays import fit_arrays
from fedledger.learning.schemas.columns import Reading
from fedledger.learning.schemas.draft import draft_schema
from fedledger.learning.schemas.fit import Fit
from fedledger.learning.schemas.tables import fit_tables
from fedledger.learning.sources.tables import read_tables
from fedledger.node.own_data import OwnData, fit_own_data
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import (
    ArraySchema,
    CategoryColumn,
    ClassTarget,
    NumberColumn,
    NumberTarget,
    TableSchema,
    read_schema,
    schema_of,
)

AGE = NumberColumn(name="age", unit="years", least=0, most=120, mean=50, deviation=10, missing=50)
PAIN = CategoryColumn(name="pain", categories=("none", "some", "much"), missing=True)
ILL = ClassTarget(name="ill", classes=("no", "yes"))
SCHEMA = TableSchema(columns=(AGE, PAIN), target=ILL)


def written(folder: Path, *rows: str) -> Path:
    path = folder / "own.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def fitted(folder: Path, *rows: str, schema: TableSchema = SCHEMA, **reading: Any) -> Fit:
    return fit_tables(schema, read_tables(written(folder, *rows), ","), Reading(**reading))


def problems(fit: Fit, serious: bool = True) -> list[str]:
    return [misfit.problem for misfit in fit.misfits if misfit.is_serious is serious]


def test_columns_in_any_order_and_under_other_names_make_the_schema_s_inputs(tmp_path: Path) -> None:
    fit = fitted(
        tmp_path,
        "ward,ill,Schmerz,age",
        "7,yes,some,60",
        "8,no,,",
        "9,yes,much,30.0",
        names={"pain": "Schmerz"},
    )
    examples = fit.required()
    assert examples.inputs.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [-2, 0, 0, 1]]
    assert examples.targets.tolist() == [1, 0, 1] and examples.classes == 2


def test_one_number_in_two_spellings_is_one_category(tmp_path: Path) -> None:
    codes = TableSchema(columns=(CategoryColumn(name="code", categories=("1", "2")),), target=ILL)
    for cells in (("1", "2"), ("1.0", "2.0"), ("1", "2.00")):
        fit = fitted(tmp_path, "code,ill", f"{cells[0]},no", f"{cells[1]},yes", schema=codes)
        assert fit.required().inputs.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["age,ill", "40,no"], "no column 'pain'"),
        (["age,pain,ill", "40,few,no"], "'few' is no category of the task"),
        (["age,pain,ill", "forty,some,no"], "'forty' is not a number"),
        (["age,pain,ill", "400,some,no"], "outside the task's bounds, 0 to 120 years"),
        (["age,pain,ill", "40,some,maybe"], "'maybe' is no class of the task"),
        (["age,pain,ill", "40,some,"], "a class is missing"),
    ],
)
def test_what_does_not_fit_is_told_at_its_place(tmp_path: Path, rows: list[str], told: str) -> None:
    fit = fitted(tmp_path, *rows)
    (problem,) = problems(fit)
    assert told in problem and fit.examples is None
    with pytest.raises(ConfigError, match="column"):
        fit.required()


def test_all_misfits_are_told_at_once_and_counted(tmp_path: Path) -> None:
    fit = fitted(tmp_path, "age,pain,ill", "x,few,no", "y,few,maybe", "30,some,yes")
    assert len(problems(fit)) == 3
    assert "(in 2 rows)" in problems(fit)[0] and fit.count == 3
    with pytest.raises(ConfigError, match=r"Besides: .*column pain.*column ill"):
        fit.required()


def test_a_missing_number_is_refused_where_the_task_fills_none_in(tmp_path: Path) -> None:
    bare = TableSchema(columns=(AGE.model_copy(update={"missing": None}),), target=ILL)
    fit = fitted(tmp_path, "age,ill", "?,no", "40,yes", schema=bare, missing={"?"})
    assert "a value is missing" in problems(fit)[0]


def test_a_mark_of_missing_values_may_be_one_column_s_alone(tmp_path: Path) -> None:
    rows = ["age,pain,ill", "0.0,none,no", "60,some,yes"]
    assert fitted(tmp_path, *rows).required().inputs[0, 0] == -5
    assert fitted(tmp_path, *rows, missing_in={"age": ["0"]}).required().inputs[0, 0] == 0
    assert "no column 'size'" in problems(fitted(tmp_path, *rows, missing_in={"size": ["0"]}))[0]


@pytest.mark.parametrize("factor", [0.1, 12.0, 365.25])
def test_a_column_in_another_unit_is_suspected_and_no_honest_one_is(tmp_path: Path, factor: float) -> None:
    free = TableSchema(columns=(AGE.model_copy(update={"least": None, "most": None}), PAIN), target=ILL)
    ages = np.random.default_rng(5).normal(54, 9, 60)
    honest = [f"{age:.1f},some,{'yes' if age > 50 else 'no'}" for age in ages]
    other = [f"{factor * age:.1f},some,{'yes' if age > 50 else 'no'}" for age in ages]
    assert not fitted(tmp_path, "age,pain,ill", *honest, schema=free).misfits
    fit = fitted(tmp_path, "age,pain,ill", *other, schema=free)
    assert fit.examples is not None
    assert any("another unit" in problem for problem in problems(fit, serious=False))


def test_one_class_alone_and_an_empty_column_are_told_and_keep_nobody_out(tmp_path: Path) -> None:
    fit = fitted(tmp_path, "age,pain,ill", *[",some,no"] * 9)
    told = problems(fit, serious=False)
    assert fit.examples is not None and any("one class" in each for each in told) and any("no value" in e for e in told)


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    fit = fitted(tmp_path, "age,pain,ill", "40,some,no", schema=SCHEMA.model_copy(update={"least_examples": 2}))
    assert "asks for 2" in problems(fit)[0]


numbers = st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.6g}"))


@given(
    rows=st.lists(st.tuples(numbers | st.none(), st.sampled_from(["a", "b", None]), st.booleans()), min_size=1),
    mean=numbers,
    deviation=st.floats(1e-3, 1e3),
    fill=numbers,
    dealt=st.randoms(use_true_random=False),
)
def test_however_rows_are_dealt_each_owner_makes_the_same_inputs_of_them(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], mean: float, deviation: float, fill: float, dealt: Any
) -> None:
    """The inputs of a row depend on the schema and the row alone, and follow from it by hand."""
    column = NumberColumn(name="x", mean=mean, deviation=deviation, missing=fill)
    schema = TableSchema(columns=(column, CategoryColumn(name="c", categories=("b", "a"), missing=True)), target=ILL)
    folder = tmp_path_factory.mktemp("dealt")

    def cells(row: Any) -> str:
        x, name, ill = row
        return f"{'' if x is None else repr(x)},{name or ''},{'yes' if ill else 'no'}"

    whole = fitted(folder, "x,c,ill", *map(cells, rows), schema=schema).required()
    order = [*range(len(rows))]
    dealt.shuffle(order)
    cut = dealt.randint(1, len(rows))
    for part in (order[:cut], order[cut:]):
        if part:
            own = fitted(folder, "x,c,ill", *(cells(rows[i]) for i in part), schema=schema).required()
            assert np.array_equal(own.inputs, whole.inputs[part]) and np.array_equal(own.targets, whole.targets[part])
    for (x, name, ill), inputs, target in zip(rows, whole.inputs, whole.targets, strict=True):
        expected = [((fill if x is None else x) - mean) / deviation, float(name == "b"), float(name == "a")]
        assert inputs.tolist() == np.array(expected).astype(np.float32).tolist() and target == ill


NUMBER = {"kind": "number"}
HEART = ["cleveland", "hungarian", "switzerland", "va"]


def heart(name: str) -> Path:
    path = Path(os.environ.get("FEDLEDGER_DATA", "examples/data")) / "heart_disease" / f"processed.{name}.data"
    if not path.exists():
        pytest.skip("there is no data set heart_disease; FEDLEDGER_DATA names its folder")
    return path


def test_a_schema_drafted_by_one_hospital_fits_the_others() -> None:
    missing = Reading({"?"})
    draft = draft_schema(read_tables(heart("cleveland"), ","), missing, "num", 0)
    assert draft.schema.width == 13 and "thal" in draft.notes
    for name in HEART:
        fit = fit_tables(draft.schema, read_tables(heart(name), ","), missing)
        examples = fit.required()
        assert examples.inputs.shape == (fit.count, 13) and np.isfinite(examples.inputs).all()
    # Switzerland's cholesterol is 0 in every row, where nobody measured it.
    told = fit_tables(draft.schema, read_tables(heart("switzerland"), ","), missing).misfits
    assert any("missing_in" in misfit.remedy and misfit.column == "chol" for misfit in told)


@given(st.lists(st.integers(0, 10**6), min_size=30, max_size=60, unique=True))
def test_a_draft_holds_no_cell_that_is_one_row_s(tmp_path_factory: pytest.TempPathFactory, secrets: list[int]) -> None:
    """Names that fewer than five rows have are left out, and no extreme is drafted."""
    folder = tmp_path_factory.mktemp("draft")
    rows = [
        f"{12_345_001 + 1000 * secret},{'common' if i % 3 else f'name{secret}'},{i % 2}"
        for i, secret in enumerate(secrets)
    ]
    text = draft_schema(read_tables(written(folder, "income,city,ill", *rows), ","), Reading(), "ill").schema.encode()
    assert b"common" in text and b"name" not in text.replace(b'"name"', b"")
    assert (
        str(12_345_001 + 1000 * min(secrets)).encode() not in text
        and str(12_345_001 + 1000 * max(secrets)).encode() not in text
    )


def test_images_under_a_schema(tmp_path: Path) -> None:
    schema = ArraySchema(shape=(1, 2, 2), least=0, most=1, mean=0.5, deviation=0.5, classes=3)
    grey = np.array([[[[0, 1], [0.5, 1]]]] * 4, np.float32)
    fit = fit_arrays(schema, Dataset.of(grey, [0, 1, 0, 1]))
    assert fit.required().inputs[0].tolist() == [[[-1, 1], [0, 1]]] and fit.required().classes == 3
    for inputs, labels, told in (
        (grey * 255, [0, 1, 0, 1], "Inputs are 0 to 255"),
        (grey[:, :, :1], [0, 1, 0, 1], "shape"),
        (grey, [0, 1, 2, 3], "class 3"),
        (grey, [0.5, 1.25, 2.5, 3.5], "no classes"),
    ):
        assert told in problems(fit_arrays(schema, Dataset.of(inputs, labels)))[0]


@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (8, 6), (3, 5), (4, 3), (1, 1), (7, 11)])
def test_images_of_another_size_become_the_means_of_areas(rows: int, columns: int) -> None:
    schema = ArraySchema(shape=(1, 4, 6), resize="area", least=0, most=255, classes=2)
    grey = np.random.default_rng(rows).integers(0, 256, (70, 1, rows, columns))
    fit = fit_arrays(schema, Dataset.of(grey.astype(np.float32), [0, 1] * 35))
    # Cut into the least common pieces, and put together again.
    pieces = grey.repeat(4, axis=2).repeat(6, axis=3).reshape(70, 1, 4, rows, 6, columns)
    assert np.array_equal(fit.required().inputs, pieces.mean((3, 5)).astype(np.float32))
    told = problems(fit, serious=False)
    assert [f"{rows} × {columns}" in each for each in told] == [True] * ((rows, columns) != (4, 6))
    bare = schema.model_copy(update={"resize": None})
    refused = fit_arrays(bare, Dataset.of(grey.astype(np.float32), [0, 1] * 35))
    assert (refused.examples is None) == ((rows, columns) != (4, 6))


def test_channels_are_not_resized_and_a_schema_without_the_rule_keeps_its_bytes() -> None:
    schema = ArraySchema(shape=(1, 4, 6), resize="area", classes=2)
    colour = Dataset.of(np.ones((4, 3, 8, 12), np.float32), [0, 1, 0, 1])
    assert "shape [3, 8, 12]" in problems(fit_arrays(schema, colour))[0]
    assert b"resize" in schema.encode() and b"resize" not in ArraySchema(shape=(1, 4, 6)).encode()
    assert read_schema(schema.encode()) == schema


def test_tokens_stay_whole() -> None:
    schema = ArraySchema(shape=(3,), whole=True, least=0, most=9, target_shape=(3,), whole_targets=True)
    tokens = np.arange(6).reshape(2, 3)
    assert fit_arrays(schema, Dataset.of(tokens, tokens)).required().inputs.dtype == np.int64
    assert "outside" not in problems(fit_arrays(schema, Dataset.of(tokens * 3, tokens)))[0]


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "table", "columns": [], "target": {"kind": "number"}},
        {"kind": "table", "columns": [{"kind": "number", "name": "x", "deviation": 0}], "target": {"kind": "number"}},
        {"kind": "table", "columns": [{"kind": "number", "name": "x"}] * 2, "target": {"kind": "number"}},
        {"kind": "table", "columns": [{"kind": "number", "name": "x"}], "target": {"kind": "number", "name": "x"}},
        {"kind": "table", "columns": [{"kind": "number", "name": "x", "least": 2, "most": 1}], "target": {"kind": "x"}},
        {"kind": "table", "columns": [{"kind": "number", "name": "x", "least": 2, "most": 1}], "target": NUMBER},
        {"kind": "arrays", "shape": [2**20, 2**20]},
        {"kind": "arrays", "shape": [2], "classes": 3, "class_names": ["a"]},
        {"kind": "arrays", "shape": [2], "whole": True, "mean": 1},
        {"kind": "arrays", "shape": [4], "resize": "area"},
        {"kind": "arrays", "shape": [4, 4], "resize": "area", "whole": True},
        {"kind": "sound"},
        [],
    ],
)
def test_schemas_that_cannot_be_are_refused(document: Any) -> None:
    with pytest.raises(ConfigError):
        schema_of(document, "schema")


def test_own_data_are_one_of_table_source_and_script(tmp_path: Path) -> None:
    for wrong in ({}, {"table": "a", "script": "b"}, {"script": "b", "delimiter": ";"}):
        with pytest.raises(ValueError, match=r"give one|are for a table"):
            OwnData.model_validate(wrong)
    (tmp_path / "mine.py").write_text(
        "import numpy as np\ndef data():\n    return np.zeros((4, 3), np.float32), np.array([0, 1, 0, 1])\n"
    )
    own = OwnData(script="mine.py")
    assert fit_own_data(own, tmp_path, None).required().inputs.shape == (4, 3)
    assert fit_own_data(own, tmp_path, ArraySchema(shape=(3,), classes=2)).required().classes == 2
    with pytest.raises(ConfigError, match="about tables"):
        fit_own_data(own, tmp_path, SCHEMA)
    with pytest.raises(ConfigError, match="does not say how tables"):
        fit_own_data(OwnData(table="own.csv"), tmp_path, None)


def test_a_number_to_predict_stays_as_it_is(tmp_path: Path) -> None:
    schema = TableSchema(columns=(AGE,), target=NumberTarget(name="cost", least=0))
    fit = fitted(tmp_path, "age,cost", "40,12.5", "60,7", schema=schema)
    assert fit.required().targets.tolist() == [12.5, 7] and fit.required().classes is None
    assert "outside" in problems(fitted(tmp_path, "age,cost", "40,-1", schema=schema))[0]


def test_tables_with_odd_cells_are_read_as_csv_has_them(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["age", "pain", "ill"], ["40", "so,me", "no"]])
    schema = TableSchema(columns=(CategoryColumn(name="pain", categories=("so,me", 'a "b"')),), target=ILL)
    assert fit_tables(schema, read_tables(path, ","), Reading()).required().inputs.tolist() == [[1, 0]]
