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
    """Print rows with the same columns as a table, every text verbatim."""
    table = Table(*map(escape, rows[0] if rows else ["nothing"]), title=escape(title), title_justify="left")
    for row in rows:
        table.add_row(*(escape(shown(value)) for value in row.values()))
    out.print(table)


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
