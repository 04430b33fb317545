"""The command that lists methods."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fedledger.platform.cli.console import out, print_json
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import kinds
from fedledger.protocol.methods.description import described, markdown
from fedledger.protocol.methods.registry import Kind

methods_app = typer.Typer()


class MethodsFormat(StrEnum):
    """How methods are listed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


@methods_app.command("methods")
def list_methods(
    kind: Annotated[
        str | None, typer.Argument(help="kind of method, such as rules; lists all kinds if omitted")
    ] = None,
    output: Annotated[
        MethodsFormat, typer.Option("--format", help="text, one JSON document on stdout, or a Markdown table")
    ] = MethodsFormat.TEXT,
) -> None:
    """List the methods to choose from: what each does, its parameters with defaults and bounds, and its paper."""
    chosen = kinds() if kind is None else {kind: _kind(kind)}
    if output is MethodsFormat.JSON:
        print_json({plural: [asdict(method) for method in described(one)] for plural, one in chosen.items()})
    elif output is MethodsFormat.MARKDOWN:
        print(
            "\n".join(
                f"{plural}\n\n{markdown(one)}" if kind is None else markdown(one) for plural, one in chosen.items()
            )
        )
    else:
        for plural, one in chosen.items():
            out.print(_table(plural, one))


def _kind(plural: str) -> Kind:
    if plural not in kinds():
        raise ConfigError(f"There is no kind of method {plural!r}.", f"There are: {', '.join(kinds())}.")
    return kinds()[plural]


def _table(plural: str, kind: Kind) -> Table:
    table = Table(
        "method", "what it does", "parameter", "default", "values", "meaning", title=plural, title_justify="left"
    )
    for method in described(kind):
        cites = method.paper and method.paper not in method.summary
        does = f"{method.summary} [{method.paper}]" if cites else method.summary
        first = (escape(method.method), escape(does))
        for parameter in method.parameters:
            cells = (parameter.name, parameter.default_in_words, parameter.values, parameter.plain_meaning)
            table.add_row(*first, *(escape(cell) for cell in cells))
            first = ("", "")
        if first[0]:
            table.add_row(*first, "", "", "", "")
    return table
