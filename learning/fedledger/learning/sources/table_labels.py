"""The column of tables that is to be predicted, as classes or numbers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.arrays import FEW_CLASSES, look_like_numbers
from fedledger.learning.sources.tables import Table, as_number, is_missing
from fedledger.protocol.encoding.strict import shown
from fedledger.protocol.errors import ConfigError

_PADDED = re.compile(r"[+-]?0[0-9].*")
_AS_NUMBERS = 'set objective = { method = "regression@1" }, or for an objective() of your own targets = "numbers"'


def require_labels(tables: Sequence[Table], name: str, what: str, missing: str) -> None:
    """Raise ConfigError if a row has no value in a column."""
    for table in tables:
        for row, cell in enumerate(table.column(name)):
            if is_missing(cell, missing):
                raise ConfigError(
                    f"{table.place(row, name)}: a {what} is missing.",
                    f"Give every row a value of {name}, or delete such rows.",
                )


def numbers_of(tables: Sequence[Table], label: str) -> NDArray[np.float64]:
    """Return the numbers of a column, float64[n].

    Raises
    ------
    ConfigError
        If a cell is no number, at its place.
    """
    return np.array([number for table in tables for (number,) in table.numbers([label], "")], np.float64)


def classes_of(tables: Sequence[Table], label: str, are_classes: bool) -> tuple[NDArray[np.int64], int]:
    """Return each row's class, and how many classes there are: the distinct values in their order.

    Parameters
    ----------
    tables, label
        The column.
    are_classes
        Whether its values are known to be classes, whatever they look like.

    Raises
    ------
    ConfigError
        If the values are of several sorts or spellings, or look like numbers to predict.
    """
    cells = [cell for table in tables for cell in table.column(label)]
    numbers = [as_number(cell) for cell in cells]
    known = [number for number in numbers if number is not None]
    where = f"{tables[0].file}: the labels in column {label}"
    if known and len(known) < len(cells):
        other = next(cell for cell, number in zip(cells, numbers, strict=True) if number is None)
        raise ConfigError(f"{where} are numbers, but one is {shown(other)}.", "Make all of them numbers, or none.")
    keys: NDArray[np.float64] | NDArray[np.str_]
    if known:
        for table in tables:
            _require_one_spelling(table, label)
        keys = np.array(known)
        doubtful = look_like_numbers(keys)
    else:
        _require_texts(where, cells)
        keys = np.array(cells)
        doubtful = len(set(cells)) > max(FEW_CLASSES, len(cells) // 2)
    names, codes = np.unique(keys, return_inverse=True)
    if doubtful and not are_classes:
        remedy = f"To predict numbers, {_AS_NUMBERS}" if known else "Name another column as the label"
        raise ConfigError(
            f"{where} have {len(names):,} different values in {len(cells):,} rows, too many for classes.",
            f'{remedy}; if they are classes all the same, set targets = "classes".',
        )
    return codes.astype(np.int64), max(2, len(names))


def _require_one_spelling(table: Table, label: str) -> None:
    """Raise ConfigError if a table writes one number in two ways, which may be two classes."""
    spelt: dict[float | None, str] = {}
    for row, cell in enumerate(table.column(label)):
        first = spelt.setdefault(as_number(cell), cell)
        if first != cell:
            raise ConfigError(
                f"{table.place(row, label)}: the labels {shown(first)} and {shown(cell)} are the same number.",
                "Write every class in one way.",
            )
    padded = next((cell for cell in spelt.values() if _PADDED.fullmatch(cell)), None)
    if padded is not None and any(not cell.isdigit() or len(cell) != len(padded) for cell in spelt.values()):
        raise ConfigError(
            f"{table.file}: some labels in column {label} begin with zeros, such as {shown(padded)}, others do not.",
            "Write every class in one way.",
        )


def _require_texts(where: str, cells: Sequence[str]) -> None:
    """Raise ConfigError if texts differ only in case or white space, or are numbers of another spelling."""
    alike: dict[str, set[str]] = defaultdict(set)
    for cell in set(cells):
        alike[" ".join(cell.casefold().split())].add(cell)
        try:
            float(cell)
        except ValueError:
            continue
        raise ConfigError(f"{where} have {shown(cell)}.", "Write numbers in decimal digits, and classes as names.")
    for spellings in sorted(map(sorted, alike.values())):
        if len(spellings) > 1:
            raise ConfigError(
                f"{where} have {' and '.join(map(shown, spellings))}, which differ only in case or white space.",
                "Write every class in one way.",
            )
