"""Odd tables of every sort load as what they say, or are refused by place with what to do."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.learning.data import Dataset
from fedledger.learning.sources.base import load_dataset
from fedledger.learning.sources.scaling import standardised
from fedledger.learning.sources.tables import as_number
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.protocol.errors import ConfigError
from support.examples import examples

ROWS = [(63.5, 1, 145, 0), (41, 0, 130, 1), (56.2, 1, 120, 0), (57, 0, 140, 1), (44, 1, 118, 0), (52, 1, 172, 1)]
HEADER = "age,sex,bp,sick"
PLAIN = HEADER + "\n" + "".join(",".join(map(str, row)) + "\n" for row in ROWS)
LABELS = [0, 1, 0, 1, 0, 1]


def labelled(*labels: str) -> str:
    return "x,sick\n" + "".join(f"{row},{label}\n" for row, label in enumerate(labels))


def load(folder: Path, content: str | bytes, name: str = "t.csv", **params: Any) -> Dataset:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_dataset("csv@1", {"path": str(file), "label": "sick"} | params)


@pytest.mark.parametrize(
    ("content", "params"),
    [
        (PLAIN, {}),
        (PLAIN.encode("utf-8-sig"), {}),
        (PLAIN.replace("\n", "\r\n"), {}),
        (PLAIN.replace("\n", "\r"), {}),
        (PLAIN.replace("\n", "\n\n") + "\n\n", {}),
        (PLAIN + "   \n", {}),
        (PLAIN.replace("145", '"145"').replace("age", '"age"'), {}),
        (PLAIN.replace("145", "1.45e2"), {}),
        (PLAIN.replace("145", "+145."), {}),
        (PLAIN.replace(",", " , "), {}),
        (PLAIN.replace(",", "\t"), {"delimiter": "\t"}),
        (PLAIN.replace(",", ";"), {"delimiter": ";"}),
        (PLAIN.replace("\n", ",\n"), {"ignore": [""]}),
        ("name," + PLAIN.replace("\n", "\nann,", 6), {"ignore": ["name"]}),
        (PLAIN.replace(",0\n", ",no\n").replace(",1\n", ",yes \n"), {}),
        (PLAIN.replace(",0\n", ",0.0\n").replace(",1\n", ",1.0\n"), {}),
        (PLAIN.replace(",0\n", ",03\n").replace(",1\n", ",12\n"), {}),
        (PLAIN.replace(",0\n", ",-1\n"), {}),
        (PLAIN.replace(",1\n", ",3\n"), {"threshold": 2}),
    ],
)
def test_tables_of_many_spellings_load_alike(tmp_path: Path, content: str | bytes, params: dict[str, Any]) -> None:
    wanted = standardised(np.array(ROWS)[:, :3])
    found = load(tmp_path, content, **params)
    assert np.array_equal(found.inputs, wanted.astype(np.float32))
    assert (found.targets.tolist(), found.classes) == (LABELS, 2)


def number(cell: str) -> str:
    return PLAIN.replace("145", cell)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (number("1_45"), "line 2, column bp: '1_45' is not a float32 number.*decimal digits"),
        (number("１４５"), "line 2, column bp: .*is not a float32 number"),
        (number("0x91"), "decimal digits"),
        (number("14.5%"), "without the percent sign"),
        (number('"1,145"'), "thousands without a separator"),
        (number("2024-01-02"), "date as a number"),
        (number("inf"), "Leave the cell empty"),
        (number("-Infinity"), "Leave the cell empty"),
        (number("1e999"), "Leave the cell empty"),
        (number("3.5e38"), "Leave the cell empty"),
        (number("NA"), 'missing = "NA"'),
        (number("null"), 'missing = "null"'),
        (number("9" * 500), "not a float32 number"),
        (number("1 45"), "not a float32 number"),
        (number("--1"), "not a float32 number"),
        (number("14\0005"), "line 2: a cell has a NUL"),
        (number('"14"5'), "Close every quote"),
        (number('"145'), "Close every quote"),
        (number("1" * 140_000), "larger than field limit"),
        (PLAIN.encode("utf-16"), "UTF-16. Save it as UTF-8"),
        (PLAIN.replace("age", "âge").encode("latin-1"), "not UTF-8"),
        (PLAIN.replace(",", ";"), 'one column.*delimiter = ";"'),
        (PLAIN.replace(",", "\t"), 'delimiter = "'),
        (PLAIN.split("\n", 1)[1], "no header: its first line holds numbers"),
        ("1,1,1,0\n" + PLAIN.split("\n", 1)[1], "no header"),
        ("sep=,\n" + PLAIN, "the first line, 'sep=', is not a header. Delete it"),
        ("# exported, 2026\n" + PLAIN, "Delete lines in front of the header, such as '# exported'"),
        ("Patients\n" + PLAIN, "4 cells under 1 names.*delete what stands in front"),
        (PLAIN.replace("age,", "", 1), "4 cells under 3 names. Name every column"),
        (PLAIN.replace("\n", ",\n"), r"every line ends with a delimiter.*ignore = \[\"\"\]"),
        (HEADER + PLAIN[len(HEADER) :].replace("\n", ",\n")[1:], "Delete the delimiter at the end of the line"),
        (PLAIN + "1,2\n", "line 8: 2 cells under 4 names. Complete the row"),
        (PLAIN.replace("sex", "age"), "two columns of the same name, 'age'"),
        (PLAIN.replace("sex", "").replace("age", ""), "several columns without a name"),
        (PLAIN.replace("sex", ""), r"column 2 has no name.*ignore = \[\"\"\]"),
        ("", "no rows"),
        (HEADER + "\n", "no rows"),
        (PLAIN.replace("118,0", "118,"), "line 6, column sick: a label is missing"),
        (PLAIN.replace("118,0", "118,nan"), "line 6, column sick: a label is missing"),
        (PLAIN.replace("118,0", "118,inf"), "labels in column sick are numbers, but one is 'inf'"),
        (PLAIN.replace("118,0", "118,1_0"), "labels in column sick are numbers, but one is '1_0'"),
        (PLAIN.replace("118,0", "118,no"), "labels in column sick are numbers, but one is 'no'"),
        (labelled("inf", "big", "small"), "have 'inf'"),
        (labelled("inf", "-inf"), "Write numbers in decimal digits"),
        (labelled("0", "1", "0.0"), "line 4, column sick: the labels '0' and '0.0' are the same number"),
        (labelled("1", "0", "01"), "line 4, column sick: the labels '1' and '01' are the same number"),
        (labelled("0.0", "1", "02"), "begin with zeros, such as '02'"),
        (labelled("No", "yes", "no"), "'No' and 'no', which differ only in case"),
        (labelled("not  sick", "sick", "not sick"), "differ only in case or white space"),
        (labelled(*(f"{row * 1.37:.3f}" for row in range(200))), "200 different values in 200 rows.*regression@1"),
        (labelled(*(str(row * 17) for row in range(40))), "40 different values in 40 rows"),
        (labelled(*(f"p{row}" for row in range(40))), "40 different values in 40 rows.*Name another column"),
    ],
)
def test_what_is_no_table_of_numbers_and_classes_is_refused(tmp_path: Path, content: str | bytes, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, content)


def with_column(name: str, values: list[Any]) -> str:
    lines = PLAIN.strip().split("\n")
    return "\n".join(f"{value},{line}" for value, line in zip([name, *values], lines, strict=True)) + "\n"


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("", [0, 1, 2, 3, 4, 5], r"column 1 numbers the rows.*ignore = \[\"\"\]"),
        ("", [9, 1, 7, 4, 2, 5], "column 1 numbers the rows"),
        ("Unnamed: 0", [0, 1, 2, 3, 4, 5], r"numbers the rows.*ignore = \[\"Unnamed: 0\"\]"),
        ("id", [1, 2, 3, 4, 5, 6], "numbers the rows"),
        ("#", [1, 2, 3, 4, 5, 6], "numbers the rows"),
        ("PatientID", [77, 12, 31, 4, 52, 6], "numbers the rows"),
        ("customer_id", [2**53 + row for row in range(6)], "numbers the rows"),
        ("account", [2**53 + 1 + row for row in range(6)], "ids rather than quantities"),
        ("account", [2**60 + row % 2 for row in range(6)], "ids rather than quantities"),
        ("account", [2**40 + 1, 2**40 + 2, 2**40 + 3, 2**50, 2**50, 2**50], "ids rather than quantities"),
    ],
)
def test_columns_that_number_or_name_rows_are_no_inputs(
    tmp_path: Path, name: str, values: list[Any], told: str
) -> None:
    content = with_column(name, values)
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, content)
    assert load(tmp_path, content, ignore=[name]).inputs.shape == (6, 3)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("day", [0, 1, 2, 3, 4, 5]),
        ("id", [1, 1, 2, 2, 3, 3]),
        ("id", [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]),
        ("acid", [1, 2, 3, 4, 5, 6]),
        ("population", [331_002_651, 83_783_942, 67_886_011, 65_273_511, 60_461_826, 46_754_778]),
        ("time_ns", [10**15 + row * 10**9 for row in range(6)]),
        ("mass", [2e30, 6e24, 7e22, 2e27, 1, 3]),
        ("worth", [0, 1, 2, 3, 4, 10**12]),
    ],
)
def test_quantities_are_inputs(tmp_path: Path, name: str, values: list[Any]) -> None:
    assert load(tmp_path, with_column(name, values)).inputs[:, 0].any()


def test_numbers_to_predict_are_loaded_as_they_are(tmp_path: Path) -> None:
    content = labelled(*(f"{row * 1.37:.3f}" for row in range(200)))
    wanted = np.array([f"{row * 1.37:.3f}" for row in range(200)], np.float32)
    for found in (
        load(tmp_path, content, targets="numbers"),
        load_dataset("csv@1", {"path": str(tmp_path / "t.csv"), "label": "sick"}, numbers=True),
    ):
        assert found.classes is None and np.array_equal(found.targets, wanted)
    ratings = load(tmp_path, labelled("3", "1", "5", "3"), targets="numbers")
    assert ratings.classes is None and ratings.targets.tolist() == [3, 1, 5, 3]
    assert load(tmp_path, labelled("3", "1", "5", "3")).targets.tolist() == [1, 0, 2, 1]
    params = {"path": str(tmp_path / "t.csv"), "label": "sick", "targets": "classes"}
    assert load_dataset("csv@1", params, numbers=True).classes == 3
    assert load(tmp_path, content, targets="classes").classes == 200
    with pytest.raises(ConfigError, match="column sick: 'no' is not a float32 number"):
        load(tmp_path, labelled("3", "no"), targets="numbers")
    with pytest.raises(ConfigError, match="Leave out one of them"):
        load(tmp_path, content, targets="numbers", threshold=1.0)
    with pytest.raises(ConfigError, match="one of classes, numbers"):
        load(tmp_path, content, targets="both")


def test_a_regression_gets_the_labels_values_without_being_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,stars\n" + "".join(f"{row % 7}.5,{1 + row % 5}\n" for row in range(300)))
    (tmp_path / "task.py").write_text("from torch import nn\ndef model():\n    return nn.Linear(1, 1)\n")
    described = {
        "name": "stars",
        "participants": 3,
        "code": "task.py",
        "data": {"source": {"method": "csv@1", "params": {"path": "t.csv", "label": "stars"}}},
        "training": {
            "pipeline": "plain",
            "rounds": 1,
            "objective": {"method": "regression@1"},
            "solver": {"method": "sgd@1", "params": {"learning_rate": 0.1, "local_epochs": 1}},
        },
    }
    experiment = make_experiment(ExperimentConfig.model_validate(described), tmp_path)
    whole = experiment.parts.whole
    assert whole.classes is None and set(whole.targets.tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert experiment.label_counts.kind == "tenth"


def test_groups_and_ignored_columns(tmp_path: Path) -> None:
    content = with_column("site", ["a", "b", "a", "", "b", "a"])
    with pytest.raises(ConfigError, match="line 5, column site: a group is missing"):
        load(tmp_path, content, group="site")
    assert load(tmp_path, content.replace("\n,", "\nc,"), group="site").groups.tolist() == [
        "a",
        "b",
        "a",
        "c",
        "b",
        "a",
    ]
    with pytest.raises(ConfigError, match="both used and ignored"):
        load(tmp_path, PLAIN, ignore=["sick"])
    with pytest.raises(ConfigError, match=r"no column 'sx'.*There are: age, sex, bp, sick"):
        load(tmp_path, PLAIN, ignore=["sx"])
    with pytest.raises(ConfigError, match="no column besides"):
        load(tmp_path, PLAIN, ignore=["age", "sex", "bp"])


def test_a_folder_holds_tables_of_either_case_and_spellings_may_differ_between_them(tmp_path: Path) -> None:
    (tmp_path / "a.CSV").write_text("x,sick\n1,0\n2,1\n")
    (tmp_path / "b.Data").write_text("x,sick\n1,0.0\n5,1.0\n")
    (tmp_path / "._a.csv").write_bytes(b"\0\1\2")
    found = load_dataset("csv@1", {"path": str(tmp_path), "label": "sick"})
    assert found.targets.tolist() == [0, 1, 0, 1] and found.groups.tolist() == ["a.CSV"] * 2 + ["b.Data"] * 2
    for file in ("a.CSV", "b.Data"):
        rows = (tmp_path / file).read_text().strip().split("\n")
        numbered = [f"{index if index else 'id'},{row}" for index, row in enumerate(rows)]
        (tmp_path / file).write_text("\n".join(numbered) + "\n")
    with pytest.raises(ConfigError, match="'id' numbers the rows"):
        load_dataset("csv@1", {"path": str(tmp_path), "label": "sick"})


@pytest.mark.parametrize("values", [[0.1] * 20, [1e8 + row * 1e-9 for row in range(20)], [1e300] * 3, [7.0], [0.0] * 4])
def test_what_is_constant_but_for_rounding_is_0(values: list[float]) -> None:
    assert not standardised(np.array(values)[:, None]).any()


@given(st.floats(-1e12, 1e12), st.floats(1e-3, 1e3), st.integers(2, 60), st.integers(0, 99))
def test_what_varies_is_standardised(centre: float, width: float, n: int, seed: int) -> None:
    values = centre + width * np.random.default_rng(seed).normal(size=(n, 1))
    if values.std() > 1e-6 * max(1.0, abs(centre)):
        assert abs(standardised(values).std() - 1) < 1e-6 and abs(standardised(values).mean()) < 1e-6


@examples(300)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30))
def test_numbers_are_read_as_python_writes_them(value: float) -> None:
    for spelt in (str(value), repr(value), f"{value:e}", f"+{abs(value)}"):
        assert as_number(spelt) == float(spelt)


@examples(300)
@given(st.text(max_size=12) | st.from_regex(r"[+\-_0-9.eExXinfa ٣]{1,8}", fullmatch=True))
def test_nothing_is_read_as_a_number_that_python_does_not_read_so(text: str) -> None:
    number = as_number(text)
    if number is not None:
        assert text.isascii() and set(text) <= set("+-.0123456789eE") and number == float(text)


@examples(200)
@given(st.lists(st.lists(st.text(max_size=6), min_size=1, max_size=4), max_size=5), st.sampled_from(",;\t|x"))
def test_any_cells_load_or_are_refused(rows: list[list[str]], delimiter: str) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["x", "sick"], *rows])
    check_any_bytes(text.getvalue().encode("utf-8", "surrogatepass"), delimiter)


@examples(200)
@given(st.binary(max_size=60))
def test_any_bytes_load_or_are_refused(content: bytes) -> None:
    check_any_bytes(content, ",")
    check_any_bytes(b"x,sick\n" + content, ",")


def check_any_bytes(content: bytes, delimiter: str) -> None:
    with TemporaryDirectory() as folder:
        try:
            found = load(Path(folder), content, delimiter=delimiter)
        except ConfigError as error:
            assert error.remedy
        else:
            assert np.isfinite(found.inputs).all() and found.classes is not None


def test_a_table_may_have_very_many_columns(tmp_path: Path) -> None:
    """The work grows with the columns, not with their square."""
    names, n = "".join(f"c{number}," for number in range(100_000)), 100_000
    began = time.monotonic()
    found = load(tmp_path, f"{names}sick\n" + "1," * n + "0\n" + "2," * n + "1\n")
    assert found.inputs.shape == (2, n)
    with pytest.raises(ConfigError, match="two columns of the same name, 'sick'"):
        load(tmp_path, f"{names}sick,sick\n" + "1," * n + "0,0\n")
    assert time.monotonic() - began < 60
