"""Statistics of one's own tables for a task that looks for a schema's constants, and the constants from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.schemas.columns import ColumnReader, Reading
from fedledger.learning.schemas.draft import LEAST_ROWS, Draft, rounded
from fedledger.learning.schemas.fit import Fit, fit_of
from fedledger.learning.sources.tables import Table
from fedledger.protocol.encoding.strict import shown
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import CategoryColumn, NumberColumn, StatisticsSchema, TableSchema

SHARE = 1e-6
"""A category with a smaller share has none: rounding may leave as much of it."""

Numbers = NDArray[np.float64]


def fit_statistics(schema: StatisticsSchema, tables: Sequence[Table], reading: Reading) -> Fit:
    """Make examples of tables, of which a solver takes means and spreads.

    Inputs are float32[n, k] within [-1, 1], targets float32[n, k] are 1 where a number is known and 0 where not. A
    category that fewer than five rows have counts as one that no row has, and a number that fewer than five rows have
    as unknown in all: neither may be told.

    Parameters
    ----------
    schema
        The task's.
    tables
        One's own, which have one header.
    reading
        How they are written.
    """
    return _Fitting(schema, tables, reading).fit()


def middle_row(schema: StatisticsSchema) -> Dataset:
    """Return one row that nobody has, in the middle of all bounds, on which models of statistics are measured."""
    zeros = np.zeros((1, schema.width), np.float32)
    return Dataset(zeros, np.ones_like(zeros), None)


class _Fitting(ColumnReader):
    # The owners' files are of the task that the constants are for, whose other columns are not asked for.
    names_all = False

    def __init__(self, schema: StatisticsSchema, tables: Sequence[Table], reading: Reading) -> None:
        super().__init__([column.name for column in schema.columns], tables, reading)
        self._schema = schema

    def fit(self) -> Fit:
        present = [column for column in self._schema.columns if self._has(column.name)]
        pairs = [
            self._scaled(column) if isinstance(column, NumberColumn) else self._shares(column) for column in present
        ]
        examples = None
        if not any(misfit.is_serious for misfit in self._misfits):
            values, known = (np.concatenate(each, axis=1).astype(np.float32) for each in zip(*pairs, strict=True))
            examples = Dataset(values, known, None)
        return fit_of(examples, self._count, self._schema.least_examples, self._misfits)

    def _scaled(self, column: NumberColumn) -> tuple[Numbers, Numbers]:
        values = self._read_numbers(column.name, may_be_missing=True)
        self._require_bounds(column, values)
        known = ~np.isnan(values)
        if known.sum() < LEAST_ROWS:
            self._warn(
                column.name,
                f"Column {self._own(column.name)!r} has {known.sum()} values: nothing is told of fewer than "
                f"{LEAST_ROWS}.",
                "If it has more, look whether `missing` and `columns` name the right ones.",
            )
            known[:] = False
        scaled = np.clip((np.where(known, values, column.middle) - column.middle) / column.half_range, -1, 1)
        return scaled[:, None], known[:, None].astype(np.float64)

    def _shares(self, column: CategoryColumn) -> tuple[Numbers, Numbers]:
        codes = self._read_names(column.name, column.categories, may_be_missing=True, what="category")
        held = codes[:, None] == np.arange(column.width)
        held &= held.sum(0) >= LEAST_ROWS
        return held.astype(np.float64), np.ones(held.shape)


def with_constants(table: TableSchema, told: StatisticsSchema, mean: Numbers, spread: Numbers) -> Draft:
    """Return a table's schema with the constants that a round of statistics found.

    Numbers get a mean and a deviation of three digits, and a missing one becomes the mean where it may be missing at
    all. Categories that most participants do not have are left out.

    Parameters
    ----------
    table
        The schema before.
    told
        The schema of the statistics.
    mean, spread
        float64[k] each: the model of the statistics.

    Raises
    ------
    ConfigError
        If the two schemas have no column in common, or a category is left without a name.
    """
    columns = {column.name: column for column in told.columns}
    if not any(column.name in columns for column in table.columns):
        raise ConfigError("The task and the statistics have no column in common.", "Name the task that they are for.")
    starts = np.cumsum([0, *(column.width for column in told.columns)])
    places = {column.name: int(start) for column, start in zip(told.columns, starts[:-1], strict=True)}
    notes: dict[str, str] = {}
    found: list[NumberColumn | CategoryColumn] = []
    for column in table.columns:
        asked = columns.get(column.name)
        if asked is None:
            found.append(column)
            continue
        place = places[column.name]
        if isinstance(column, NumberColumn) and isinstance(asked, NumberColumn):
            found.append(_number(column, asked, float(mean[place]), float(spread[place]), notes))
        elif isinstance(column, CategoryColumn) and isinstance(asked, CategoryColumn):
            shares = dict(zip(asked.categories, mean[place : place + asked.width].tolist(), strict=True))
            found.append(_category(column, shares, notes))
        else:
            raise ConfigError(f"Column {column.name} is of another kind in the statistics.", "Correct its kind.")
    return Draft(table.model_copy(update={"columns": tuple(found)}), notes)


def _number(
    column: NumberColumn, asked: NumberColumn, mean: float, spread: float, notes: dict[str, str]
) -> NumberColumn:
    least, most = asked.middle - asked.half_range, asked.middle + asked.half_range
    centre = rounded(min(max(asked.middle + asked.half_range * mean, least), most))
    deviation = rounded(min(max(spread, 0.0), 2.0) * asked.half_range)
    if not deviation:
        notes[column.name] = "no spread: all values are the same, or most participants have none"
        deviation = rounded(asked.half_range)
    missing = None if column.missing is None else centre
    return column.model_copy(update={"mean": centre, "deviation": deviation, "missing": missing})


def _category(column: CategoryColumn, shares: dict[str, float], notes: dict[str, str]) -> CategoryColumn:
    kept = tuple(name for name in column.categories if shares.get(name, 1.0) > SHARE)
    if not kept:
        raise ConfigError(
            f"Most participants have none of the categories of column {column.name} in {LEAST_ROWS} rows.",
            "Leave the column out, or correct its categories.",
        )
    if len(kept) < len(column.categories):
        left = ", ".join(shown(name) for name in column.categories if name not in kept)
        notes[column.name] = f"left out, as most participants have them in fewer than {LEAST_ROWS} rows: {left}"
    return column.model_copy(update={"categories": kept})
