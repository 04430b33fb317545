"""Tables in CSV files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.arrays import EXACT
from fedledger.learning.data import Dataset
from fedledger.learning.sources.base import DATASETS, NUMBERS
from fedledger.learning.sources.scaling import standardised
from fedledger.learning.sources.table_labels import classes_of, numbers_of, require_labels
from fedledger.learning.sources.tables import Table, read_tables, require_names, require_no_row_numbers
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.parameters import Checked, ListOf, OneOf, Real, Text

_EXACT_DOUBLE = 2**53
_LARGEST_ID = 2**64


@DATASETS.register("csv@1")
@dataclass(frozen=True)
class CsvTables(Checked):
    """Loads numeric tables with a header: float32[n, columns], standardised over all tables together.

    A number is written in decimal digits. A missing cell (empty, ``missing`` or ``nan``) takes its column's median; a
    column without any value, or with a single one, is 0.

    Parameters
    ----------
    path
        One table, or a folder whose ``.csv`` and ``.data`` files are read in the order of their names.
    label
        The column to predict. Its distinct values are the classes, in their order, unless ``threshold`` or ``targets``
        is given.
    threshold
        Makes two classes: 1 where the label is above it, 0 elsewhere.
    group
        The column that holds each row's natural key; by default, in a folder, the file's name.
    missing
        What stands for a missing value.
    delimiter
        What separates cells.
    ignore
        Columns that are left out, such as row numbers and names.
    targets
        ``numbers`` to predict the labels' values, as they are; ``classes`` for classes even if they look like numbers.
        By default numbers if the objective predicts numbers, else classes.
    """

    path: Annotated[str, Text()]
    label: Annotated[str, Text()]
    threshold: Annotated[float | None, Real(-sys.float_info.max, sys.float_info.max)] = None
    group: Annotated[str | None, Text()] = None
    missing: Annotated[str, Text(100)] = "?"
    delimiter: Annotated[str, Text(1)] = ","
    ignore: Annotated[Sequence[str], ListOf(Text(), 10_000)] = ()
    targets: Annotated[str | None, OneOf(("classes", NUMBERS))] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is not None and self.targets == NUMBERS:
            raise ConfigError("A threshold makes two classes, but targets are numbers.", "Leave out one of them.")

    def load(self) -> Dataset:
        """Load the tables.

        Raises
        ------
        ConfigError
            If a file or column is missing, a cell is not what it should be, or a column or the labels are none; the
            message names the place.
        """
        tables = read_tables(Path(self.path), self.delimiter)
        features = self._features(tables)
        require_labels(tables, self.label, "label", self.missing)
        targets, classes = self._targets(tables)
        values = np.array([row for table in tables for row in table.numbers(features, self.missing)], np.float64)
        inputs = standardised(_imputed(values))
        _require_no_ids(tables[0], features, values, inputs)
        dataset = Dataset.of(inputs, targets, self._groups(tables), classes)
        return dataset.as_numbers() if classes is None else dataset

    def _features(self, tables: Sequence[Table]) -> list[str]:
        """Return the columns of the inputs."""
        first = tables[0]
        for column in (self.label, *([] if self.group is None else [self.group]), *self.ignore):
            if column not in first.places:
                raise ConfigError(f"{first.file} has no column {column!r}.", f"There are: {', '.join(first.header)}.")
            if column in self.ignore and column in (self.label, self.group):
                raise ConfigError(f"Column {column!r} is both used and ignored.", "Take it out of `ignore`.")
        left_out = {self.label, *([] if self.group is None else [self.group]), *self.ignore}
        require_names(first, left_out)
        features = [column for column in first.header if column not in left_out]
        if not features:
            raise ConfigError(f"{first.file} has no column besides label and group.", "Add input columns.")
        require_no_row_numbers(tables, features)
        return features

    def _targets(self, tables: Sequence[Table]) -> tuple[NDArray[np.float64] | NDArray[np.int64], int | None]:
        """Return each row's class and how many classes there are, or each row's number and None."""
        if self.targets == NUMBERS:
            return numbers_of(tables, self.label), None
        if self.threshold is None:
            return classes_of(tables, self.label, self.targets is not None)
        return (numbers_of(tables, self.label) > float(self.threshold)).astype(np.int64), 2

    def _groups(self, tables: Sequence[Table]) -> NDArray[np.str_] | None:
        if self.group is not None:
            require_labels(tables, self.group, "group", self.missing)
            return np.array([key for table in tables for key in table.column(self.group)])
        if Path(self.path).is_dir():
            return np.array([table.file.name for table in tables for _ in table.rows])
        return None


def _imputed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    filled = values.copy()
    for column in filled.T:
        known = column[~np.isnan(column)]
        column[np.isnan(column)] = np.median(known) if len(known) else 0.0
    return filled


def _require_no_ids(
    table: Table, names: Sequence[str], values: NDArray[np.float64], inputs: NDArray[np.float64]
) -> None:
    """Raise ConfigError if a column has whole numbers so large that doubles, or float32 once standardised, merge them.

    Quantities may be as large, but those begin with small ones or have more digits than 64 bits.
    """
    for name, column, scaled in zip(names, values.T, inputs.T, strict=True):
        known = column[~np.isnan(column)]
        if not len(known) or (known != np.floor(known)).any() or np.abs(known).min() <= EXACT:
            continue
        largest = np.abs(known).max()
        merged = len(np.unique(scaled.astype(np.float32))) < 0.9 * len(np.unique(known))
        if largest <= _LARGEST_ID and (largest > _EXACT_DOUBLE or merged):
            raise ConfigError(
                f"{table.file}: column {name} has whole numbers up to {largest:.0f}, which are ids rather than "
                "quantities: scaling them merges some.",
                f'Leave it out with ignore = ["{name}"], or number the ids from 0 in a task of your own.',
            )
