"""The benchmark of contribution scores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fedledger.platform.cli.bench import FiguresOption, write_figures
from fedledger.platform.cli.console import BenchFormat, BenchFormatOption, err, print_rows


def bench_contributions(
    methods: Annotated[
        str | None,
        typer.Option(help="which, separated by commas, as name@version (default: those that need no evidence)"),
    ] = None,
    participants: Annotated[int, typer.Option(min=2, max=10, help="number of participants")] = 10,
    attack: Annotated[str, typer.Option(help="what attackers do, as `bench robustness` names it")] = "none",
    hostile: Annotated[int, typer.Option(min=0, max=9, help="how many of them attack")] = 0,
    dirichlet: Annotated[float, typer.Option(min=0.01, max=1000, help="how alike the participants' data are")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="rounds that are played")] = 10,
    repeats: Annotated[
        int, typer.Option(min=1, max=100, help="evaluations of a round, of which the shortest counts")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="seed of the task")] = 1,
    document: Annotated[
        Path | None, typer.Option(help="document whose table is to be written anew, such as docs/contributions.md")
    ] = None,
    output: FiguresOption = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Evaluate each round of a task on `digits` with one contribution score after the other.

    Shows how many coalitions each measures, what it adds to a round's time, how it correlates with exact Shapley
    values, and what it pays attackers that no detector refuses.
    """
    from fedledger.platform.bench.contributions import COMMAND, NAMES, Given, measured, table_cells
    from fedledger.platform.bench.option_lists import listed
    from fedledger.platform.bench.robustness import DIGITS, Condition
    from fedledger.platform.bench.tables import between_marks, markdown_table, marked_document

    text = None if document is None else marked_document(document, COMMAND)
    condition = Condition(data=DIGITS, dirichlet=dirichlet, participants=participants, hostile=hostile, seed=seed)
    given = Given.of(condition, attack, rounds, repeats)
    with err.status("playing", refresh_per_second=1):
        rows = measured(given, NAMES if methods is None else listed(methods, "--methods"))
    cells = table_cells(rows)
    if document is not None and text is not None:
        document.write_text(between_marks(text, COMMAND, markdown_table(cells)), encoding="utf-8")
    if not write_figures({"given": asdict(given), "rows": [asdict(row) for row in rows]}, output, format_):
        print_rows(cells, f"{participants} participants of digits, {hostile} of them: {attack}; {rounds} rounds")
