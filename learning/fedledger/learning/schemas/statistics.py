"""Statistics of one's own tables for a task that looks for a schema's constants, and the constants from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset
from fedledger.learning.objectives.column_statistics import KEY
from fedledger.learning.schemas.columns import ColumnReader, Reading
from fedledger.learning.schemas.draft import LEAST_ROWS, Draft, rounded
from fedledger.learning.schemas.fit import Fit, fit_of, require_few_numbers
from fedledger.learning.sources.tables import Table
from fedledger.protocol.encoding.strict import shown
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.data_schema import CategoryColumn, NumberColumn, StatisticsSchema, TableSchema
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import TaskSpec

SHARE = 1e-6
"""A category with a smaller share has none: rounding may leave as much of it."""

FINEST = 2**-10
"""The finest step in which a statistic is told, of half the range between the bounds."""
WIDEST = 2.0
"""The largest spread about any mean within the bounds."""

Numbers = NDArray[np.float64]


def fit_statistics(schema: StatisticsSchema, tables: Sequence[Table], reading: Reading) -> Fit:
    """Make examples of tables, of which a solver takes means and spreads.

    Inputs are float32[n, k] within [-1, 1], targets float32[n, k] are 1 where a number is known and 0 where not. A
    category that fewer than five rows have counts as one that no row has, and one that fewer than five lack as one that
    all have. A number that fewer than five rows have, or in which fewer than five differ from the commonest value,
    counts as unknown in all. None of these may be told.

    Parameters
    ----------
    schema
        The task's.
    tables
        One's own, which have one header.
    reading
        How they are written.

    Raises
    ------
    ConfigError
        If all rows together would have more numbers than there may be.
    """
    require_few_numbers(sum(len(table.rows) for table in tables), 2 * schema.width)
    return _Fitting(schema, tables, reading).fit()


def middle_row(schema: StatisticsSchema) -> Dataset:
    """Return one row that nobody has, in the middle of all bounds, on which models of statistics are measured."""
    zeros = np.zeros((1, schema.width), np.float32)
    return Dataset(zeros, np.ones_like(zeros), None)


def require_statistics(schema: StatisticsSchema, spec: TaskSpec, initial: ModelFile) -> None:
    """Raise ConfigError unless a task asks its participants for statistics, as its data schema says, and nothing else.

    Any other model or solver would have the rows themselves to train on, and an update may tell them.

    Parameters
    ----------
    schema
        The task's data schema.
    spec
        The task's spec.
    initial
        The task's initial model.
    """
    wanted: dict[str, tuple[object, object]] = {
        "model": (spec.model, Method(method=KEY, params={"columns": schema.width})),
        "objective": (spec.objective, Method(method=KEY)),
        "solver": (spec.solver, Method(method=KEY)),
        "code": (spec.code, None),
        "transforms": (spec.transforms, []),
        "payload": (spec.payload, []),
        "vectors": (spec.vectors, []),
        "tensors": (spec.tensors, None),
    }
    wrong = [name for name, (found, expected) in wanted.items() if found != expected]
    if not wrong and not _is_within_bounds(initial, schema.width):
        wrong = ["initial_model"]
    if wrong:
        raise ConfigError(
            f"The data schema is one of statistics, and {', '.join(wrong)} of the task could tell whole rows.",
            f"Only {KEY} as model, with columns = {schema.width}, objective and solver tells statistics alone, without "
            "code, transforms, payload and vectors, from a model within the bounds. Do not take part in another task.",
        )


def _is_within_bounds(initial: ModelFile, width: int) -> bool:
    if (initial.names, initial.shapes) != (("mean", "spread"), ((width,), (width,))):
        return False
    mean, spread = initial.vector[:width], initial.vector[width:]
    return bool((np.abs(mean) <= 1).all() and (spread >= 0).all() and (spread <= WIDEST).all())


class _Fitting(ColumnReader):
    # The owners' files are of the task that the constants are for, whose other columns are not asked for.
    names_all = False

    def __init__(self, schema: StatisticsSchema, tables: Sequence[Table], reading: Reading) -> None:
        super().__init__([column.name for column in schema.columns], tables, reading)
        self._schema = schema

    def fit(self) -> Fit:
        values, known = np.zeros((2, self._count, self._schema.width), np.float32)
        start = 0
        for column in self._schema.columns:
            end = start + column.width
            if self._has(column.name):
                found = self._scaled(column) if isinstance(column, NumberColumn) else self._shares(column)
                values[:, start:end], known[:, start:end] = found
            start = end
        examples = None
        if not any(misfit.is_serious for misfit in self._misfits):
            examples = Dataset(values, known, None)
        return fit_of(examples, self._count, self._schema.least_examples, self._misfits)

    def _scaled(self, column: NumberColumn) -> tuple[Numbers, Numbers]:
        values = self._read_numbers(column.name, may_be_missing=True)
        self._require_bounds(column, values)
        known = ~np.isnan(values)
        commonest = np.unique(values[known], return_counts=True)[1].max(initial=0)
        if known.sum() - commonest < LEAST_ROWS:
            self._warn(
                column.name,
                f"Column {self._own(column.name)!r} has {known.sum()} values, of which {commonest} are the same: "
                f"nothing is told of it, as fewer than {LEAST_ROWS} differ.",
                "If more do, look whether `missing` and `columns` name the right ones.",
            )
            known[:] = False
        scaled = np.clip((np.where(known, values, column.middle) - column.middle) / column.half_range, -1, 1)
        return scaled[:, None], known[:, None].astype(np.float64)

    def _shares(self, column: CategoryColumn) -> tuple[Numbers, Numbers]:
        codes = self._read_names(column.name, column.categories, may_be_missing=True, what="category")
        held = codes[:, None] == np.arange(column.width)
        counts = held.sum(0)
        held &= counts >= LEAST_ROWS
        held |= counts > max(self._count - LEAST_ROWS, LEAST_ROWS - 1)
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
    deviation = rounded(min(max(spread, 0.0), WIDEST) * asked.half_range)
    if not deviation:
        notes[column.name] = (
            "no spread: most participants told nothing of it, as they have no values, or one value alone"
        )
        deviation = rounded(asked.half_range)
    elif not mean:
        notes[column.name] = "its mean is the middle of the bounds: look whether most participants have values of it"
    elif spread < FINEST * 8:
        notes[column.name] = "its bounds are so wide that its spread is hardly known: narrow them, and ask again"
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
