"""One's own tables under a task's data schema."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.schemas.fit import Fit, Misfit, fit_of
from fedledger.learning.sources.tables import Table, as_number
from fedledger.protocol.encoding.strict import shown
from fedledger.protocol.records.data_schema import CategoryColumn, ClassTarget, NumberColumn, NumberTarget, TableSchema

FAR = 3.0
"""Deviations between one's own median and the task's mean from which on a column may be in another unit."""
WIDE = 8.0
"""How many times as wide, or as narrow, as the task's a column looks wrong."""
ENOUGH = 8
"""Values from which on a column's median and spread say something."""
NAMED = 5
"""Names that a message lists."""


@dataclass(frozen=True)
class Reading:
    """How one's own tables are written.

    Parameters
    ----------
    missing
        Cells that stand for a missing value, besides empty ones.
    missing_in
        More such cells, by the schema's column.
    names
        The table's own name of a column, by the schema's, where they differ.
    """

    missing: Collection[str] = ()
    missing_in: Mapping[str, Collection[str]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def is_missing(self, column: str, cell: str) -> bool:
        """Return whether a cell of a column stands for a missing value."""
        if not cell or cell.lower() == "nan" or cell in self.missing:
            return True
        marks = self.missing_in.get(column, ())
        return bool(marks) and _key(cell) in {_key(mark) for mark in marks}


def fit_tables(schema: TableSchema, tables: Sequence[Table], reading: Reading) -> Fit:
    """Make examples of tables, which have one header.

    Parameters
    ----------
    schema
        The task's.
    tables
        One's own.
    reading
        How they are written.
    """
    return _Fitting(schema, tables, reading).fit()


def _key(cell: str) -> float | str:
    """Return what two cells of the same category share: 1, 1.0 and 01 are one number."""
    number = as_number(cell)
    return cell if number is None else number


class _Fitting:
    def __init__(self, schema: TableSchema, tables: Sequence[Table], reading: Reading) -> None:
        self._schema, self._tables, self._reading = schema, tables, reading
        self._header = tables[0].header
        self._count = sum(len(table.rows) for table in tables)
        self._misfits: list[Misfit] = []

    def fit(self) -> Fit:
        self._require_names()
        blocks = [self._inputs(column) for column in self._schema.columns if self._has(column.name)]
        targets = self._targets() if self._has(self._schema.target.name) else None
        examples = None
        if targets is not None and not any(misfit.is_serious for misfit in self._misfits):
            inputs = np.ascontiguousarray(np.concatenate(blocks, axis=1), np.float32)
            examples = Dataset(inputs, targets, self._schema.classes)
        return fit_of(examples, self._count, self._schema.least_examples, self._misfits)

    def _own(self, column: str) -> str:
        return self._reading.names.get(column, column)

    def _has(self, column: str) -> bool:
        return self._own(column) in self._tables[0].places

    def _require_names(self) -> None:
        known = [*(column.name for column in self._schema.columns), self._schema.target.name]
        for name in self._reading.names.keys() | self._reading.missing_in.keys():
            if name not in known:
                self._add(
                    name,
                    f"The task has no column {name!r}.",
                    f"Name one of the task's columns: {', '.join(known[:NAMED])}{', …' if len(known) > NAMED else ''}.",
                )
        free = [name for name in self._header if name not in known]
        for name in known:
            if not self._has(name):
                close = get_close_matches(self._own(name), free, n=1, cutoff=0.4)
                hint = close[0] if close else "ITS NAME"
                self._add(
                    name,
                    f"{self._tables[0].file} has no column {self._own(name)!r}, which the task needs.",
                    f'If it has another name, say so: columns = {{ "{name}" = "{hint}" }}.',
                )

    def _cells(self, column: str) -> list[tuple[int, Table, str]]:
        """Return a column's cells with their tables and rows."""
        own = self._own(column)
        return [(row, table, cell) for table in self._tables for row, cell in enumerate(table.column(own))]

    def _inputs(self, column: NumberColumn | CategoryColumn) -> NDArray[np.float64]:
        return self._numbers(column) if isinstance(column, NumberColumn) else self._categories(column)

    def _numbers(self, column: NumberColumn) -> NDArray[np.float64]:
        values = self._read_numbers(column.name, column.missing is not None)
        self._require_bounds(column, values)
        self._suspect(column, values)
        filled = np.where(np.isnan(values), column.mean if column.missing is None else column.missing, values)
        return ((filled - column.mean) / column.deviation)[:, None]

    def _read_numbers(self, name: str, may_be_missing: bool) -> NDArray[np.float64]:
        """Return a column's numbers, NaN where one is missing or is none, of which the first is told."""
        values = np.full(self._count, math.nan)
        missing: list[str] = []
        wrong: list[str] = []
        for place, (row, table, cell) in enumerate(self._cells(name)):
            if self._reading.is_missing(name, cell):
                missing.append(table.place(row, self._own(name)))
                continue
            number = as_number(cell)
            if number is None:
                wrong.append(f"{table.place(row, self._own(name))}: {shown(cell)} is not a number")
                continue
            values[place] = number
        if wrong:
            self._add(
                name,
                f"{wrong[0]}{_and_others(len(wrong))}.",
                "Write numbers in decimal digits; if it stands for a missing value, add it to `missing`.",
            )
        if missing and not may_be_missing:
            self._add(
                name,
                f"{missing[0]}: a value is missing{_and_others(len(missing))}, and the task fills none in.",
                "Fill it in, or leave out such rows.",
            )
        return values

    def _require_bounds(self, column: NumberColumn | NumberTarget, values: NDArray[np.float64]) -> None:
        least, most = column.least, column.most
        outside = np.zeros(len(values), bool)
        if least is not None:
            outside |= values < least
        if most is not None:
            outside |= values > most
        places = np.flatnonzero(outside)
        if len(places):
            row, table, cell = self._cells(column.name)[places[0]]
            bounds = f"{'-∞' if least is None else f'{least:g}'} to {'∞' if most is None else f'{most:g}'}"
            self._add(
                column.name,
                f"{table.place(row, self._own(column.name))}: {shown(cell)} is outside the task's bounds, {bounds}"
                f"{' ' + column.unit if column.unit else ''}{_and_others(len(places))}.",
                "Convert the column to the task's unit, correct the cells, or leave out such rows.",
            )

    def _suspect(self, column: NumberColumn, values: NDArray[np.float64]) -> None:
        """Tell of a column whose numbers look like another unit's, or like no numbers at all."""
        known = values[~np.isnan(values)]
        name, unit = column.name, f" {column.unit}" if column.unit else ""
        if self._count and not len(known) and column.missing is not None:
            self._warn(
                name,
                f"Column {self._own(name)!r} has no value: every example takes {column.missing:g}{unit}.",
                "If it has values, look whether `missing` and `columns` name the right ones.",
            )
        if len(known) < ENOUGH or (column.mean, column.deviation) == (0.0, 1.0):
            return
        middle, spread = float(np.median(known)), float(known.std())
        expected = f"the task expects {column.mean:g} ± {column.deviation:g}{unit}"
        if spread == 0 and abs(middle - column.mean) > column.deviation / 2:
            self._warn(
                name,
                f"All {len(known):,} values of column {self._own(name)!r} are {middle:g}; {expected}.",
                f'If that stands for a missing value, say so: missing_in = {{ "{name}" = ["{middle:g}"] }}.',
            )
        elif abs(middle - column.mean) > FAR * column.deviation:
            factor = (
                f", such as one that is {column.mean / middle:.3g} times as large" if middle * column.mean > 0 else ""
            )
            self._warn(
                name,
                f"Half of column {self._own(name)!r} is above {middle:g}, half below; {expected}. "
                f"It may be in another unit{factor}.",
                "Convert it to the task's unit.",
            )
        elif spread and not 1 / WIDE < spread / column.deviation < WIDE:
            self._warn(
                name,
                f"Column {self._own(name)!r} has a deviation of {spread:g}; {expected}. It may be in another unit.",
                "Convert it to the task's unit.",
            )

    def _categories(self, column: CategoryColumn) -> NDArray[np.float64]:
        codes = self._read_names(column.name, column.categories, column.missing, "category")
        found = np.zeros((self._count, column.width))
        named = np.flatnonzero(codes >= 0)
        found[named, codes[named]] = 1.0
        return found

    def _read_names(self, name: str, names: Sequence[str], may_be_missing: bool, what: str) -> NDArray[np.int64]:
        """Return the numbers of the names in a column, -1 where one is missing or unknown, which is told."""
        numbers = {_key(each): number for number, each in enumerate(names)}
        codes = np.full(self._count, -1, np.int64)
        missing: list[str] = []
        unknown: Counter[str] = Counter()
        first: dict[str, str] = {}
        for place, (row, table, cell) in enumerate(self._cells(name)):
            if self._reading.is_missing(name, cell):
                missing.append(table.place(row, self._own(name)))
                continue
            code = numbers.get(_key(cell))
            if code is None:
                unknown[cell] += 1
                first.setdefault(cell, table.place(row, self._own(name)))
                continue
            codes[place] = code
        for cell, count in unknown.most_common(NAMED):
            known = ", ".join(map(shown, names[:NAMED])) + (", …" if len(names) > NAMED else "")
            self._add(
                name,
                f"{first[cell]}: {shown(cell)} is no {what} of the task, which has {known}{_and_others(count)}.",
                "Write it as the task does, or leave out such rows.",
            )
        if missing and not may_be_missing:
            self._add(
                name,
                f"{missing[0]}: a {what} is missing{_and_others(len(missing))}.",
                "Fill it in, or leave out such rows.",
            )
        return codes

    def _targets(self) -> NDArray[np.int64] | NDArray[np.float32]:
        target = self._schema.target
        if isinstance(target, NumberTarget):
            values = self._read_numbers(target.name, may_be_missing=False)
            self._require_bounds(target, values)
            return values.astype(np.float32)
        return self._classes(target)

    def _classes(self, target: ClassTarget) -> NDArray[np.int64]:
        if target.threshold is None:
            return self._read_names(target.name, target.classes, may_be_missing=False, what="class")
        with np.errstate(invalid="ignore"):
            return (self._read_numbers(target.name, may_be_missing=False) > target.threshold).astype(np.int64)

    def _add(self, column: str, problem: str, remedy: str) -> None:
        self._misfits.append(Misfit(column, problem, remedy))

    def _warn(self, column: str, problem: str, remedy: str) -> None:
        self._misfits.append(Misfit(column, problem, remedy, is_serious=False))


def _and_others(count: int) -> str:
    return f" (in {count:,} rows)" if count > 1 else ""
