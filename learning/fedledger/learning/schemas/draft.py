"""A first data schema, drafted from one table for its owner to edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.arrays import look_like_numbers
from fedledger.learning.schemas.columns import Reading
from fedledger.learning.sources.tables import Table, as_number, numbers_rows
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import (
    CategoryColumn,
    ClassTarget,
    NumberColumn,
    NumberTarget,
    TableSchema,
)

DIGITS = 3
"""Digits of a drafted constant: means and deviations are of all rows, and need not tell one row exactly."""
FEW_CODES = 12
"""So few distinct whole numbers may be codes of something."""
MOST_CATEGORIES = 50
LEAST_RUN = 20
"""Numbers that follow each other, from which on they number the rows."""
LEAST_ROWS = 5
"""Rows that share a name, below which it may be somebody's and is not drafted as a category."""


@dataclass(frozen=True)
class Draft:
    """A drafted schema.

    Parameters
    ----------
    schema
        The schema.
    notes
        What its owner should look at, by column.
    """

    schema: TableSchema
    notes: dict[str, str]


def draft_schema(tables: Sequence[Table], reading: Reading, label: str, threshold: float | None = None) -> Draft:
    """Draft the data schema of tables.

    Numbers are centred by their mean and divided by their deviation, and a missing one takes the median. Names become
    categories. Columns that number the rows, and those of free text, are left out. Bounds are not drafted: the least
    and the largest number are single rows'.

    Parameters
    ----------
    tables
        Tables with one header.
    reading
        How they are written.
    label
        The column to predict.
    threshold
        Makes two classes of its numbers.

    Raises
    ------
    ConfigError
        If there is no such column, it has a missing value, or no column is left to learn from.
    """
    header = tables[0].header
    if label not in header:
        raise ConfigError(f"{tables[0].file} has no column {label!r}.", f"There are: {', '.join(header)}.")
    notes: dict[str, str] = {}
    columns: list[NumberColumn | CategoryColumn] = []
    for name in header:
        if name == label:
            continue
        if not name or numbers_rows(tables, name):
            notes[name] = "left out: it numbers the rows" if name else "left out: it has no name"
            continue
        found = _column(name, _known(tables, reading, name), notes)
        if found is not None:
            columns.append(found)
    if not columns:
        raise ConfigError(f"{tables[0].file} has no column to learn from.", "Give a table with numbers or categories.")
    rows = sum(len(table.rows) for table in tables)
    target = _target(tables, reading, label, threshold, rows)
    return Draft(TableSchema(columns=tuple(columns), target=target, least_examples=1), notes)


def _known(tables: Sequence[Table], reading: Reading, name: str) -> list[str]:
    return [cell for table in tables for cell in table.column(name) if not reading.is_missing(name, cell)]


def _column(name: str, cells: list[str], notes: dict[str, str]) -> NumberColumn | CategoryColumn | None:
    numbers = [as_number(cell) for cell in cells]
    known = np.array([number for number in numbers if number is not None])
    if not cells:
        notes[name] = "left out: no row has a value"
        return None
    if len(known) == len(cells):
        if _is_run(known):
            notes[name] = "left out: its numbers follow each other, one a row"
            return None
        return _numbers(name, known, notes)
    if len(known):
        notes[name] = "some cells are numbers and some are not: is one of them a mark of missing values?"
    return _categories(name, cells, notes)


def _is_run(known: NDArray[np.float64]) -> bool:
    """Return whether numbers look like those of cases: whole, each once, with none between them left out."""
    whole = len(known) >= LEAST_RUN and bool((known == np.floor(known)).all())
    return whole and len(np.unique(known)) == len(known) and known.max() - known.min() == len(known) - 1


def _numbers(name: str, known: NDArray[np.float64], notes: dict[str, str]) -> NumberColumn:
    distinct = np.unique(known)
    if 2 < len(distinct) <= FEW_CODES and (distinct == np.floor(distinct)).all():
        codes = ", ".join(f'"{code:g}"' for code in distinct)
        notes[name] = f'if these are codes: {{ kind = "category", name = "{name}", categories = [{codes}] }}'
    return NumberColumn(
        name=name,
        mean=rounded(float(known.mean())),
        deviation=rounded(float(known.std())) or 1.0,
        missing=rounded(float(np.median(known))),
    )


def _categories(name: str, cells: list[str], notes: dict[str, str]) -> CategoryColumn | None:
    names, counts = np.unique(np.array(cells), return_counts=True)
    kept = [str(each) for each, count in zip(names, counts, strict=True) if count >= LEAST_ROWS]
    if not kept or len(kept) > MOST_CATEGORIES:
        notes[name] = f"left out: {len(names):,} different texts"
        return None
    if len(kept) < len(names):
        notes[name] = f"{len(names) - len(kept)} rarer values are left out: they may tell of single rows"
    return CategoryColumn(name=name, categories=tuple(kept), missing=True)


def _target(
    tables: Sequence[Table], reading: Reading, label: str, threshold: float | None, rows: int
) -> ClassTarget | NumberTarget:
    cells = _known(tables, reading, label)
    if len(cells) < rows:
        raise ConfigError(
            f"{rows - len(cells):,} rows have no value in the label's column, {label}.", "Fill them in, or delete them."
        )
    numbers = [as_number(cell) for cell in cells]
    known = [number for number in numbers if number is not None]
    if threshold is not None:
        if len(known) < len(cells):
            raise ConfigError(f"A threshold takes numbers, and column {label} has others.", "Leave --threshold out.")
        if not min(known) <= threshold < max(known):
            raise ConfigError(
                f"All rows are on one side of the threshold {threshold:g} of column {label}.",
                f"Give one from {min(known):g} to below {max(known):g}.",
            )
        return ClassTarget(
            name=label, classes=(f"at most {threshold:g}", f"above {threshold:g}"), threshold=float(threshold)
        )
    if len(known) == len(cells) and look_like_numbers(np.array(known)):
        return NumberTarget(name=label)
    distinct = np.unique(np.array(known)) if len(known) == len(cells) else np.unique(np.array(cells))
    classes = _class_names(distinct)
    if len(classes) < 2:
        raise ConfigError(f"All rows have the same label in column {label}.", "Name another column with --label.")
    return ClassTarget(name=label, classes=classes)


def _class_names(distinct: NDArray[np.float64] | NDArray[np.str_]) -> tuple[str, ...]:
    return tuple(f"{each:g}" if isinstance(each, float) else str(each) for each in distinct.tolist())


def rounded(value: float) -> float:
    """Return a constant with as many digits as a draft has."""
    return float(f"{value:.{DIGITS}g}")
