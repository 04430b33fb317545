"""Consoles, output formats, tables and progress lines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.text import cell, shown

if TYPE_CHECKING:
    import pandas as pd


class SafeConsole(Console):
    """A console on which no text can control the terminal or turn what is read, whoever wrote it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render something; characters that are not seen stand as their escapes."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else shown(segment.text, len(segment.text), lines=True)
            yield segment if text == segment.text else Segment(text, segment.style)


# Where nobody looks at a screen, lines are as long as they need to be.
out = SafeConsole(width=None if sys.stdout.isatty() else 200)
err = SafeConsole(stderr=True, width=None if sys.stderr.isatty() else 200)


class Format(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


class TableFormat(StrEnum):
    """How tables are printed or written."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


class BenchFormat(StrEnum):
    """How measurements are printed."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="text, or one JSON document on stdout")]
TableFormatOption = Annotated[TableFormat, typer.Option("--format", help="format of the table")]
BenchFormatOption = Annotated[BenchFormat, typer.Option("--format", help="table, or one JSON document on stdout")]

Watch = Callable[[str, int, int], None]
"""Shows what is being done, how much of it is done, and out of how much."""


@contextmanager
def progress_bar(what: str, left: bool = False) -> Iterator[Watch]:
    """Show on stderr that work is under way, and give the function that shows how far it is.

    Parameters
    ----------
    what
        The work.
    left
        Whether to show how long the rest will take, if all of it is as long as what is done.
    """
    began = time.monotonic()
    with err.status(what) as shown:

        def watch(doing: str, done: int, of: int) -> None:
            rest = time_left(time.monotonic() - began, done, of) if left else ""
            shown.update(f"{what}: {doing} {done}/{of}{rest}")

        yield watch


def time_left(passed: float, done: int, of: int) -> str:
    """Return how long the rest takes, after so many seconds; nothing before anything is done, and once all is."""
    if not 0 < done < of:
        return ""
    seconds = passed / done * (of - done)
    return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"


def number(value: int | None) -> str:
    """Format an integer with thousands separators, and None as nothing."""
    return "" if value is None else f"{value:,}"


def counts(numbers: Mapping[str, object]) -> str:
    """Format how many there are of each, such as ``2 harm, 1 late``."""
    return ", ".join(f"{count} {name}" for name, count in numbers.items())


def reputation(ppm: int) -> str:
    """Format a reputation, which ledgers keep in parts per million."""
    return f"{ppm / 1e6:.3f}"


def print_json(document: object) -> None:
    """Print one JSON document on stdout."""
    # The one character that controls terminals and that JSON does not escape.
    print(json.dumps(document).replace("\x7f", "\\u007f"))


def print_result(format_: Format, document: Mapping[str, object], *lines: str) -> None:
    """Print a result: its JSON document, or its lines of text."""
    if format_ is Format.JSON:
        print_json(document)
    else:
        for line in lines:
            out.print(shown(line), markup=False)


def print_rows(rows: Sequence[Mapping[str, object]], title: str) -> None:
    """Print rows with the same columns, every text verbatim: as one table, or several where a screen is too narrow."""
    cells = [{name: shown(value) for name, value in row.items()} for row in rows]
    if not cells:
        out.print(Table("nothing", title=escape(title), title_justify="left"))
        return
    least = {name: max(_longest_word(text) for text in (name, *(row[name] for row in cells))) for name in cells[0]}
    for place, names in enumerate(_fitting(cells, least, out.width)):
        told = f"{title}, continued" if place else title
        table = Table(title=escape(told), title_justify="left")
        fits = _width(names, least) <= out.width
        for name in names:
            table.add_column(escape(name), min_width=least[name] if fits else None)
        for row in cells:
            table.add_row(*(escape(row[name]) for name in names))
        out.print(table)


def _fitting(cells: Sequence[Mapping[str, str]], least: Mapping[str, int], width: int) -> list[list[str]]:
    """Divide columns among tables that a screen has room for; each begins with those that tell its rows apart."""
    names = list(least)
    if _width(names, least) <= width:
        return [names]
    first = 1 if len({row[names[0]] for row in cells}) == len(cells) else 2
    tables = [names[: first + 1]]
    for name in names[first + 1 :]:
        if _width([*tables[-1], name], least) > width:
            tables.append(names[:first])
        tables[-1].append(name)
    return tables


def _width(names: Sequence[str], least: Mapping[str, int]) -> int:
    """Return how wide a table with these columns is, at least; a column has two spaces and a line."""
    return 1 + sum(least[name] + 3 for name in names)


def _longest_word(text: str) -> int:
    """Return how wide the longest word is. Cells are wrapped between words, and no word is cut."""
    return max(map(cell_len, text.split()), default=0)


def print_frame(frame: pd.DataFrame, format_: TableFormat, output: Path | None, title: str) -> None:
    """Print a data frame in the given format, or write it to a file.

    Raises
    ------
    ConfigError
        If the format is Parquet and there is no file.
    """
    if format_ is TableFormat.PARQUET:
        if output is None:
            raise ConfigError("Parquet cannot be printed.", "Give --output FILE.")
        # Parquet has no mapping without any name.
        frame.map(lambda value: None if value == {} else value).to_parquet(output)
    elif format_ is TableFormat.TEXT:
        told = frame.astype(object).where(frame.notna(), "")
        rows = told.drop(columns="base", errors="ignore").to_dict("records")
        print_rows([{str(key): _short(value) for key, value in row.items()} for row in rows], title)
    else:
        if format_ is TableFormat.CSV:
            text = frame.rename(columns=cell).map(cell).to_csv(index=False)
        else:
            text = frame.to_json(orient="records").replace("\x7f", "\\u007f")
        if output is None:
            print(text)
        else:
            output.write_text(str(text), encoding="utf-8")


def _short(value: object) -> object:
    """Shorten a CID so that a table fits a screen; what has several words is wrapped instead."""
    if not isinstance(value, str) or len(value) <= 50 or " " in value:
        return value
    return f"{value[:8]}…{value[-6:]}"
