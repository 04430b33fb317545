"""The columns of one's own tables: their cells as numbers and names, and what in them does not fit, at its place."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.schemas.fit import Misfit
from fedledger.learning.sources.tables import Table, as_number
from fedledger.protocol.encoding.strict import shown
from fedledger.protocol.records.data_schema import NumberColumn, NumberTarget

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


class ColumnReader:
    """Reads columns of tables by the task's names of them, and keeps what does not fit.

    Parameters
    ----------
    names
        The task's names of all columns that it needs.
    tables
        One's own, which have one header.
    reading
        How they are written.
    """

    names_all: ClassVar[bool] = True
    """Whether the task names all columns that its owners may have to say something of."""

    def __init__(self, names: Sequence[str], tables: Sequence[Table], reading: Reading) -> None:
        self._names, self._tables, self._reading = names, tables, reading
        self._header = tables[0].header
        self._count = sum(len(table.rows) for table in tables)
        self._misfits: list[Misfit] = []
        self._require_names()

    def _own(self, column: str) -> str:
        return self._reading.names.get(column, column)

    def _has(self, column: str) -> bool:
        return self._own(column) in self._tables[0].places

    def _require_names(self) -> None:
        known = self._names
        told = self._add if self.names_all else self._warn
        for name in sorted(self._reading.names.keys() | self._reading.missing_in.keys()):
            if name not in known:
                told(
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

    def _add(self, column: str, problem: str, remedy: str) -> None:
        self._misfits.append(Misfit(column, problem, remedy))

    def _warn(self, column: str, problem: str, remedy: str) -> None:
        self._misfits.append(Misfit(column, problem, remedy, is_serious=False))


def _key(cell: str) -> float | str:
    """Return what two cells of the same category share: 1, 1.0 and 01 are one number."""
    number = as_number(cell)
    return cell if number is None else number


def _and_others(count: int) -> str:
    return f" (in {count:,} rows)" if count > 1 else ""
