"""What commands show: consoles, formats, tables and progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedledger.protocol.errors import ConfigError

# Where nobody looks at a screen, lines are as long as they need to be.
out = Console(width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, width=None if sys.stderr.isatty() else 200)


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


def _short(value: Any) -> Any:
    """Shorten a CID so that a table fits a screen."""
    return f"{value[:8]}…{value[-6:]}" if isinstance(value, str) and len(value) > 50 else value


def print_frame(frame: Any, format_: TableFormat, output: Path | None, title: str) -> None:
    """Print a data frame in a format, or write it to a file."""
    if format_ is TableFormat.PARQUET:
        if output is None:
            raise ConfigError("Parquet cannot be printed.", "Give --output FILE.")
        frame.to_parquet(output)
    elif format_ is TableFormat.TEXT:
        rows = frame.drop(columns="base", errors="ignore").to_dict("records")
        print_rows([{str(key): _short(value) for key, value in row.items()} for row in rows], title)
    else:
        text = frame.to_csv(index=False) if format_ is TableFormat.CSV else frame.to_json(orient="records")
        if output is None:
            print(text)
        else:
            output.write_text(str(text), encoding="utf-8")
