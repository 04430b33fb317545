"""Rows that a participant offers for a task's validation set: chosen, written for the publisher, and read strictly."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.data import Dataset, stratified_order
from fedledger.learning.schemas.columns import Reading
from fedledger.learning.schemas.tables import fit_tables
from fedledger.learning.sources.tables import Table, read_tables
from fedledger.protocol.encoding.strict import shown
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import TableSchema

MAX_BYTES = 4 * 1024 * 1024
"""Of an offered table."""
MOST_OFFERED = 2**24
"""Numbers of inputs that the rows of an offered table may have in all: a schema can make very many of few bytes."""
TOLD = 5
"""Names that a message lists."""


def chosen_rows(examples: Dataset, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose examples at random, of each class, or each tenth of a number to predict, its share.

    Parameters
    ----------
    examples
        Of which they are chosen.
    count
        How many, below their number.
    rng
        Decides which.

    Returns
    -------
    numpy.ndarray
        Their places int64[count], ascending.

    Raises
    ------
    ConfigError
        If there are not so many, none would be left, or all of the chosen ones are of one class.
    """
    if not 0 < count < len(examples):
        raise ConfigError(
            f"{count:,} of {len(examples):,} examples cannot be offered: some have to be left to train on.",
            "Choose another number with --examples.",
        )
    chosen = np.sort(stratified_order(examples, rng)[:count])
    _require_classes(examples.take(chosen), "The chosen examples", "Offer more of them")
    return chosen


def write_offered(
    path: Path, schema: TableSchema, tables: Sequence[Table], reading: Reading, rows: Sequence[int]
) -> None:
    """Write rows of one's own tables in the task's names of columns, missing values as empty cells, and nothing else.

    Parameters
    ----------
    path
        The new file.
    schema
        The task's.
    tables, reading
        One's own, and how they are written.
    rows
        Which of all their rows.

    Raises
    ------
    ConfigError
        If the file exists already, or the rows make more inputs than anybody would read.
    """
    _require_few(len(rows), schema, "The chosen rows", "Offer fewer with --examples.")
    names = _names(schema)
    cells = [[cell for table in tables for cell in table.column(reading.names.get(name, name))] for name in names]
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for row in rows:
                own = ((name, column[row]) for name, column in zip(names, cells, strict=True))
                writer.writerow("" if reading.is_missing(name, cell) else cell for name, cell in own)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already.", "Move it, or write to another file.") from error


def read_offered(path: Path, schema: TableSchema) -> Dataset:
    """Read rows that somebody offers, as :func:`write_offered` wrote them; nothing in them is believed.

    Parameters
    ----------
    path
        A table of at most ``MAX_BYTES``, with the task's columns and no others.
    schema
        The task's.

    Raises
    ------
    ConfigError
        If it is larger, has other columns, a cell that is not the task's, or one class alone, or if its rows make more
        than ``MOST_OFFERED`` inputs; the file is named.
    """
    if not path.is_file():
        raise ConfigError(f"There is no table of offered rows at {path}.", "Correct its path under `offered`.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ConfigError(
            f"The offered rows in {path} have {size:,} bytes, and {MAX_BYTES:,} are the limit.", "Ask for fewer rows."
        )
    tables = read_tables(path, ",")
    others = [name for name in tables[0].header if name not in _names(schema)]
    if others:
        told = ", ".join(map(shown, others[:TOLD])) + (", …" if len(others) > TOLD else "")
        raise ConfigError(
            f"The offered rows in {path} have columns that are not the task's: {told}.",
            "Ask for rows that `fedledger node offer` wrote: they hold the task's columns alone.",
        )
    _require_few(sum(len(table.rows) for table in tables), schema, f"The offered rows in {path}", "Ask for fewer rows.")
    # What a participant needs to train is not what it has to offer.
    fit = fit_tables(schema.model_copy(update={"least_examples": 1}), tables, Reading())
    for misfit in fit.serious:
        raise ConfigError(f"The offered rows in {path} do not fit the task: {misfit.problem}", "Ask for others.")
    examples = fit.required()
    _require_classes(examples, f"The offered rows in {path}", "Ask for rows of each class")
    return examples


def _names(schema: TableSchema) -> list[str]:
    return [*(column.name for column in schema.columns), schema.target.name]


def _require_few(rows: int, schema: TableSchema, what: str, remedy: str) -> None:
    inputs = rows * schema.width
    if inputs > MOST_OFFERED:
        raise ConfigError(f"{what} make {inputs:,} inputs, and {MOST_OFFERED:,} are the limit.", remedy)


def _require_classes(examples: Dataset, what: str, remedy: str) -> None:
    if examples.classes is not None and len(np.unique(examples.targets)) == 1:
        raise ConfigError(
            f"{what} are of one class alone.",
            f"{remedy}: updates that are measured on one class alone look good if they know no other.",
        )
