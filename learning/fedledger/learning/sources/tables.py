"""Tables of text: their cells, read strictly, and what in them is no input."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fedledger.protocol.encoding.strict import shown
from fedledger.protocol.errors import ConfigError

SUFFIXES = (".csv", ".data")
LONGEST_NUMBER = 400
"""Characters of a number, at most."""
FEWEST_ROWS = 3
"""With fewer rows a column of row numbers is not told from others."""
LIMIT = float(np.finfo(np.float32).max)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ROW_NAME = re.compile(
    r"unnamed(: ?\d+)?|#|no\.?|nr\.?|ids?|.*[\W_]ids?|idx|index|level_0"
    r"|row.?(number|num|no|nr|name|names|index)?|rownames?|obs(ervation)?|record|recno",
    re.IGNORECASE,
)
_CAMEL_ID = re.compile(r".*[a-z]I[dD]s?")
_MISSING = frozenset({"na", "n/a", "null", "none", "-", "--", ".", "missing", "unknown", "<na>", "#n/a"})
_DELIMITERS = {";": ";", "\t": "\\t", "|": "|", ",": ","}


@dataclass(frozen=True)
class Table:
    """A table.

    Parameters
    ----------
    file
        Where it is.
    header
        The names of its columns, each of them once.
    rows
        Each row's line and cells, as many as there are columns.
    """

    file: Path
    header: tuple[str, ...]
    rows: Sequence[tuple[int, Sequence[str]]]

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Where each column is, by name: tables may have very many."""
        return {name: index for index, name in enumerate(self.header)}

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        index = self.places[name]
        return [cells[index] for _, cells in self.rows]

    def numbers(self, names: Sequence[str], missing: str) -> list[list[float]]:
        """Return the numbers of some columns, row by row; NaN where one is missing.

        Raises
        ------
        ConfigError
            If a cell is neither missing nor a number, at its line and column.
        """
        places = [(name, self.places[name]) for name in names]
        return [
            [
                math.nan if is_missing(cells[index], missing) else self._number(line, name, cells[index])
                for name, index in places
            ]
            for line, cells in self.rows
        ]

    def place(self, row: int, name: str) -> str:
        """Say where a cell is."""
        return f"{self.file}, line {self.rows[row][0]}, column {name}"

    def _number(self, line: int, name: str, cell: str) -> float:
        number = as_number(cell)
        if number is None:
            raise ConfigError(
                f"{self.file}, line {line}, column {name}: {shown(cell)} is not a float32 number.", _remedy(cell)
            )
        return number


def as_number(cell: str) -> float | None:
    """Return the number that decimal digits stand for, or None for all else: other digits, words, what is too large."""
    if len(cell) > LONGEST_NUMBER or not _NUMBER.fullmatch(cell):
        return None
    number = float(cell)
    return number if abs(number) <= LIMIT else None


def is_missing(cell: str, missing: str) -> bool:
    """Return whether a cell is empty or stands for a missing value."""
    return cell in {"", missing} or cell.lower() == "nan"


def read_tables(path: Path, delimiter: str) -> list[Table]:
    """Read a table, or the tables of a folder in the order of their names, which have one header.

    Raises
    ------
    ConfigError
        If there is none, or one is not of text with a header and rows of as many cells.
    """
    tables = [_read_table(file, delimiter) for file in _table_files(path)]
    for table in tables:
        if table.header != tables[0].header:
            raise ConfigError(f"{table.file} and {tables[0].file} have different headers.", "Make them equal.")
    return tables


def require_no_row_numbers(tables: Sequence[Table], names: Collection[str]) -> None:
    """Raise ConfigError if one of some columns numbers or names the rows, of which a model would learn nothing.

    That is a column without a name or with one like ``id`` whose cells are 0, 1, … or 1, 2, … in every table, or whole
    numbers of which none comes twice in one table.
    """
    if sum(len(table.rows) for table in tables) < FEWEST_ROWS:
        return
    for name in names:
        if numbers_rows(tables, name):
            raise ConfigError(
                f"{tables[0].file}: column {name!r} numbers the rows; it is not an input.",
                f'Leave it out with ignore = ["{name}"], or give it another name if a model is to learn from it.',
            )


def numbers_rows(tables: Sequence[Table], name: str) -> bool:
    """Return whether a column numbers or names the rows, by its name and its cells."""
    if not _ROW_NAME.fullmatch(name) and not _CAMEL_ID.fullmatch(name):
        return False
    return all(_is_key(table.column(name)) for table in tables)


def require_names(table: Table, ignored: Collection[str]) -> None:
    """Raise ConfigError if a column has no name, unless that is ignored."""
    if "" not in table.header or "" in ignored:
        return
    cells, place = table.column(""), table.header.index("")
    if place == len(table.header) - 1 and not any(cells):
        raise ConfigError(
            f"{table.file}: every line ends with a delimiter, which makes an empty last column.",
            'Delete it at the ends of all lines, or leave the column out with ignore = [""].',
        )
    what = "numbers the rows" if _is_key(cells) else "has no name"
    raise ConfigError(
        f"{table.file}: column {place + 1} {what}.", 'Leave it out with ignore = [""], or give it a name in the header.'
    )


def _is_key(cells: Sequence[str]) -> bool:
    numbers = [as_number(cell) for cell in cells]
    return all(number is not None and number.is_integer() for number in numbers) and len(set(cells)) == len(cells)


def _remedy(cell: str) -> str:
    """Return what to do about a cell that is no number."""
    lowered = cell.lower()
    if lowered in _MISSING:
        return f'If it stands for a missing value, set missing = "{cell}".'
    if "," in cell:
        return "Write decimals with a point, and thousands without a separator."
    if cell.endswith("%"):
        return "Write the share without the percent sign."
    if re.fullmatch(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?", cell):
        return "Write a date as a number, such as days since some day."
    if re.fullmatch(r"[+-]?(inf|infinity)", lowered) or _NUMBER.fullmatch(cell):
        return "Leave the cell empty, or give a number that float32 holds."
    return "Write it in decimal digits, or encode it as numbers, leave the column out with `ignore`, or set `missing`."


def _table_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(
        file
        for file in path.glob("*")
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not found:
        raise ConfigError(f"There is no table at {path}.", "Give a CSV file, or a folder of .csv or .data files.")
    return found


def _read_table(file: Path, delimiter: str) -> Table:
    lines = _lines(file, delimiter)
    if len(lines) < 2:
        raise ConfigError(f"{file} has no rows.", "Give a header and at least one row.")
    header = tuple(lines[0][1])
    _require_header(file, header, delimiter)
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise _other_length(file, header, line, [row for _, row in lines[1:]], cells)
    return Table(file, header, lines[1:])


def _other_length(
    file: Path, header: Sequence[str], line: int, rows: Sequence[Sequence[str]], cells: Sequence[str]
) -> ConfigError:
    """Return the error of a row that has more or fewer cells than the header."""
    if header[0].startswith("#"):
        remedy = f"Delete lines in front of the header, such as {shown(header[0])}."
    elif len(cells) == len(header) + 1 and not cells[-1]:
        remedy = "Delete the delimiter at the end of the line."
    elif len({len(row) for row in rows}) == 1:
        remedy = "Name every column in the header, and delete what stands in front of it."
    else:
        remedy = "Complete the row."
    return ConfigError(f"{file}, line {line}: {len(cells)} cells under {len(header)} names.", remedy)


def _lines(file: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return the lines that are not blank, with their numbers."""
    try:
        with file.open("rb") as raw:
            if raw.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise ConfigError(f"{file} is text in UTF-16.", "Save it as UTF-8.")
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} cannot be read as CSV: it is not UTF-8 ({error.reason}).", "Save it so.") from error
    except csv.Error as error:
        raise ConfigError(f"{file} cannot be read as CSV: {error}.", "Close every quote that opens a cell.") from error
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as CSV: {error}.", "Give UTF-8 text with a header.") from error
    found = [(line, cells) for line, cells in lines if len(cells) > 1 or any(cells)]
    for line, cells in found:
        if any("\0" in cell for cell in cells):
            raise ConfigError(f"{file}, line {line}: a cell has a NUL character.", "Give UTF-8 text with a header.")
    return found


def _require_header(file: Path, header: tuple[str, ...], delimiter: str) -> None:
    counted = {tuple(map(str, range(start, start + len(header)))) for start in (0, 1)}
    if all(as_number(name) is not None for name in header) and header not in counted:
        raise ConfigError(
            f"{file} has no header: its first line holds numbers.", "Put the names of the columns into a first line."
        )
    if header[0].lower().startswith("sep="):
        raise ConfigError(f"{file}: the first line, {shown(header[0])}, is not a header.", "Delete it.")
    if len(header) == 1:
        found = [name for mark, name in _DELIMITERS.items() if mark in header[0] and mark != delimiter]
        if found:
            raise ConfigError(
                f"{file} has one column, {shown(header[0])}.", f'Set delimiter = "{found[0]}", which separates it.'
            )
    if len(set(header)) != len(header):
        twice = Counter(header).most_common(1)[0][0]
        if not twice:
            raise ConfigError(f"{file} has several columns without a name.", "Give every column its own name.")
        raise ConfigError(
            f"{file} has two columns of the same name, {shown(twice)}.", "Give every column its own name."
        )
