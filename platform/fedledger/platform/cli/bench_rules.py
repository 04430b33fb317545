"""The benchmark of aggregation rules."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fedledger.platform.cli.bench import FiguresOption, write_figures
from fedledger.platform.cli.console import BenchFormat, BenchFormatOption, err, print_rows
from fedledger.protocol.errors import ExitCode


def bench_rules(
    rules: Annotated[
        str | None,
        typer.Option(
            help="which, separated by commas: krum, nnm+trimmed_mean, any rule as `bench robustness` names it "
            "(default: those that byzfl has)"
        ),
    ] = None,
    engines: Annotated[str, typer.Option(help="whose, separated by commas: fedledger, byzfl")] = "fedledger,byzfl",
    vectors: Annotated[int, typer.Option(min=3, max=4096, help="number of vectors")] = 50,
    dimension: Annotated[int, typer.Option(min=1, max=100_000_000, help="coordinates of each")] = 1_000_000,
    hostile: Annotated[int | None, typer.Option(min=0, help="how many are tolerated (default: a fifth)")] = None,
    deviation: Annotated[
        float, typer.Option(min=1e-7, max=8.0, help="standard deviation of the coordinates, which are normal")
    ] = 0.01,
    threads: Annotated[int, typer.Option(min=1, max=256, help="threads of each engine")] = 2,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="runs, of which the shortest counts")] = 3,
    document: Annotated[
        Path | None, typer.Option(help="document whose table is to be written anew, such as docs/robustness.md")
    ] = None,
    output: FiguresOption = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Time aggregation rules beside byzfl's, from vectors of float32 to the aggregate, and measure their memory.

    Each is run in a process of its own; ours quantises its input. byzfl is tried with NumPy's and torch's type, and the
    faster one counts. The exit code is 1 if a run fails.
    """
    from fedledger.platform.bench.option_lists import listed
    from fedledger.platform.bench.rules import COMMAND, NAMES, Bench, Given, table_cells
    from fedledger.platform.bench.tables import between_marks, markdown_table, marked_document

    text = None if document is None else marked_document(document, COMMAND)
    given = Given(
        rows=vectors,
        dimension=dimension,
        f=vectors // 5 if hostile is None else hostile,
        deviation=deviation,
        threads=threads,
        repeats=repeats,
    )
    with err.status("starting", refresh_per_second=1) as shown:
        chosen = NAMES if rules is None else listed(rules, "--rules")
        bench = Bench(given, chosen, listed(engines, "--engines"), lambda doing: shown.update(f"measuring {doing}"))
        rows = list(bench.rows())
    cells = table_cells(rows)
    if document is not None and text is not None:
        document.write_text(between_marks(text, COMMAND, markdown_table(cells)), encoding="utf-8")
    if not write_figures({"given": asdict(given), "rows": [asdict(row) for row in rows]}, output, format_):
        print_rows(cells, f"{vectors:,} vectors of {dimension:,} coordinates; threads: {threads:,}")
    failures = [row for row in rows if row.error is not None]
    for row in failures:
        err.print(f"{row.rule} of {row.engine}: {row.error}", markup=False)
    if failures:
        raise typer.Exit(ExitCode.FAILURE)
