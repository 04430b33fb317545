"""Tables in CSV files."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.sources.base import DATASETS
from fedledger.learning.sources.scaling import standardised
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Real, Text


@DATASETS.register("csv@1")
def csv_tables(
    path: Annotated[str, Text()],
    label: Annotated[str, Text()],
    threshold: Annotated[float | None, Real(-sys.float_info.max, sys.float_info.max)] = None,
    group: Annotated[str | None, Text()] = None,
    missing: Annotated[str, Text(100)] = "?",
    delimiter: Annotated[str, Text(1)] = ",",
) -> Dataset:
    """Load numeric tables with a header: float32[n, columns], standardised over all tables together.

    A missing cell (empty, ``missing`` or ``nan``) takes its column's median; a column without any value is 0.

    Parameters
    ----------
    path
        One table, or a folder whose ``.csv`` and ``.data`` files are read in the order of their names.
    label
        The column to predict. Its distinct values are the classes, in their order, unless ``threshold`` is
        given.
    threshold
        Makes two classes: 1 where the label is above it, 0 elsewhere.
    group
        The column that holds each row's natural key; by default, in a folder, the file's name.
    missing
        What stands for a missing value.
    delimiter
        What separates cells.

    Raises
    ------
    ConfigError
        If a file or column is missing, or a cell is not a float32 number; the message names the place.
    """
    tables = [_read_table(file, delimiter) for file in _table_files(Path(path))]
    features = _features(tables, label, group)
    values = np.array([row for table in tables for row in table.numbers(features, missing)], np.float64)
    targets, classes = _targets(tables, label, threshold, missing)
    keys = None
    if group is not None:
        keys = np.array([key for table in tables for key in table.column(group)])
    elif Path(path).is_dir():
        keys = np.array([table.file.name for table in tables for _ in table.rows])
    return Dataset.of(standardised(_imputed(values)), targets, keys, classes)


def _targets(
    tables: Sequence[_Table], label: str, threshold: float | None, missing: str
) -> tuple[NDArray[np.int64], int]:
    """Return each row's class, and how many classes there are."""
    for table in tables:
        if any(_is_missing(cell, missing) for cell in table.column(label)):
            raise ConfigError(f"{table.file}: a label is missing.", f"Give every row a value of {label}.")
    if threshold is None:
        return _classes([cell for table in tables for cell in table.column(label)])
    limit = float(threshold)
    marks = [mark for table in tables for (mark,) in table.numbers([label], missing)]
    return np.array([mark > limit for mark in marks], np.int64), 2


def _features(tables: Sequence[_Table], label: str, group: str | None) -> list[str]:
    """Return the columns of the inputs, which all tables have."""
    first = tables[0]
    for table in tables:
        if table.header != first.header:
            raise ConfigError(f"{table.file} and {first.file} have different headers.", "Make them equal.")
    for column in filter(None, (label, group)):
        if column not in first.header:
            raise ConfigError(f"{first.file} has no column {column!r}.", f"There are: {', '.join(first.header)}.")
    features = [column for column in first.header if column not in {label, group}]
    if not features:
        raise ConfigError(f"{first.file} has no column besides label and group.", "Add input columns.")
    return features


@dataclass(frozen=True)
class _Table:
    file: Path
    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]]

    def column(self, name: str) -> list[str]:
        index = self.header.index(name)
        return [cells[index] for _, cells in self.rows]

    def numbers(self, names: list[str], missing: str) -> list[list[float]]:
        places = [(name, self.header.index(name)) for name in names]
        return [
            [
                math.nan if _is_missing(cells[index], missing) else self._number(line, name, cells[index])
                for name, index in places
            ]
            for line, cells in self.rows
        ]

    def _number(self, line: int, name: str, cell: str) -> float:
        try:
            number = float(cell)
        except ValueError:
            number = math.inf
        if abs(number) > float(np.finfo(np.float32).max):
            raise ConfigError(
                f"{self.file}, line {line}, column {name}: {cell!r} is not a float32 number.",
                "Encode it as a number, or name what stands for a missing value.",
            )
        return number


def _table_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(file for file in path.glob("*") if file.suffix in {".csv", ".data"} and file.is_file())
    if not found:
        raise ConfigError(f"There is no table at {path}.", "Give a CSV file, or a folder of .csv or .data files.")
    return found


def _read_table(file: Path, delimiter: str) -> _Table:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error, TypeError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as CSV: {error}.", "Give UTF-8 text with a header.") from error
    if len(lines) < 2:
        raise ConfigError(f"{file} has no rows.", "Give a header and at least one row.")
    header = tuple(lines[0][1])
    if len(set(header)) != len(header):
        raise ConfigError(f"{file} has two columns of the same name.", "Give every column its own name.")
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise ConfigError(
                f"{file}, line {line}: {len(cells)} cells under {len(header)} names.", "Complete the row."
            )
    return _Table(file, header, lines[1:])


def _is_missing(cell: str, missing: str) -> bool:
    return cell in {"", missing} or cell.lower() == "nan"


def _classes(cells: list[str]) -> tuple[NDArray[np.int64], int]:
    try:
        keys: NDArray[Any] = np.array([float(cell) for cell in cells])
    except ValueError:
        keys = np.array(cells)
    names, codes = np.unique(keys, return_inverse=True)
    return codes.astype(np.int64), max(2, len(names))


def _imputed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    filled = values.copy()
    for column in filled.T:
        known = column[~np.isnan(column)]
        column[np.isnan(column)] = np.median(known) if len(known) else 0.0
    return filled
