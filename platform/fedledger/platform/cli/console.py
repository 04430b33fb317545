"""What commands show: consoles, formats, tables and progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# Where nobody looks at a screen, lines are as long as they need to be.
out = Console(width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, width=None if sys.stderr.isatty() else 200)


class Format(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


class BenchFormat(StrEnum):
    """How figures are printed."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="text, or one JSON document on stdout")]
BenchFormatOption = Annotated[BenchFormat, typer.Option("--format", help="table, or one JSON document on stdout")]


@contextmanager
def progress(what: str) -> Iterator[Any]:
    """Show that something is done, and give what tells how far it is: of what, how much, and how much in all."""
    with err.status(what) as shown:
        yield lambda doing, done, of: shown.update(f"{what}: {doing} {done}/{of}")


def number(value: int | None) -> str:
    """Return a whole number with commas, and nothing for None."""
    return "" if value is None else f"{value:,}"


def names(text: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def print_rows(rows: list[dict[str, Any]], title: str) -> None:
    """Print rows of the same columns as a table, every text as it is."""
    table = Table(*map(escape, rows[0] if rows else ["nothing"]), title=escape(title), title_justify="left")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    out.print(table)
