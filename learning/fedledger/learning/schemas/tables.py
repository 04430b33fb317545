"""One's own tables under a task's data schema."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.schemas.columns import ColumnReader, Reading
from fedledger.learning.schemas.fit import Fit, fit_of, require_few_numbers
from fedledger.learning.sources.tables import Table
from fedledger.protocol.records.data_schema import CategoryColumn, ClassTarget, NumberColumn, NumberTarget, TableSchema

FAR = 3.0
"""Deviations between one's own median and the task's mean from which on a column may be in another unit."""
WIDE = 8.0
"""How many times as wide, or as narrow, as the task's a column looks wrong."""
ENOUGH = 8
"""Values from which on a column's median and spread say something."""


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

    Raises
    ------
    ConfigError
        If all rows together would have more inputs than there may be.
    """
    require_few_numbers(sum(len(table.rows) for table in tables), schema.width)
    return _Fitting(schema, tables, reading).fit()


class _Fitting(ColumnReader):
    def __init__(self, schema: TableSchema, tables: Sequence[Table], reading: Reading) -> None:
        super().__init__([*(column.name for column in schema.columns), schema.target.name], tables, reading)
        self._schema = schema

    def fit(self) -> Fit:
        inputs = np.empty((self._count, self._schema.width), np.float32)
        start = 0
        for column in self._schema.columns:
            end = start + column.width
            if self._has(column.name):
                inputs[:, start:end] = self._inputs(column)
            start = end
        targets = self._targets() if self._has(self._schema.target.name) else None
        examples = None
        if targets is not None and not any(misfit.is_serious for misfit in self._misfits):
            examples = Dataset(inputs, targets, self._schema.classes)
        return fit_of(examples, self._count, self._schema.least_examples, self._misfits)

    def _inputs(self, column: NumberColumn | CategoryColumn) -> NDArray[np.float64]:
        return self._numbers(column) if isinstance(column, NumberColumn) else self._categories(column)

    def _numbers(self, column: NumberColumn) -> NDArray[np.float64]:
        values = self._read_numbers(column.name, column.missing is not None)
        self._require_bounds(column, values)
        self._suspect(column, values)
        filled = np.where(np.isnan(values), column.mean if column.missing is None else column.missing, values)
        return ((filled - column.mean) / column.deviation)[:, None]

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
