"""The command that compares mechanisms by populations of agents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.console import (
    BenchFormat,
    BenchFormatOption,
    err,
    out,
    print_json,
    print_rows,
    progress_bar,
)
from fedledger.protocol.errors import ExitCode
from fedledger.storage.machine import processors

if TYPE_CHECKING:
    from fedledger.platform.incentives.populations.figures import ComparisonRow
    from fedledger.platform.incentives.populations.market import MarketConfig, MarketOutcome


def incentives_run(
    config: Annotated[Path, typer.Argument(help="the comparison, a TOML file")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="folder to which each finished run is added, and from which one goes on; at the end it has "
            "comparison.png, comparison.json and comparison.csv, too",
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="FIRST..LAST, or numbers separated by commas")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, max=65_535, help="rounds of each run")] = None,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="play on contracts, each run on a chain of its own; it comes to the same")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one for each processor)")] = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Compare mechanisms × populations × seeds: score, money, welfare, participation, and regret.

    Each run is real training, with agents that come, report and work by costs that only they know; the same people come
    to every mechanism. A line below the table explains its columns; see docs/incentives.md. Runs that --out holds of
    the same configuration are not played again: give a new folder for another version of the program. The exit code is
    1 if a run fails.
    """
    from fedledger.platform.bench.robustness_options import seeds_of
    from fedledger.platform.incentives.populations.config import load_comparison
    from fedledger.platform.incentives.populations.runs import Comparison
    from fedledger.platform.incentives.populations.tables import COLUMNS, table_cells, utility_cells

    cases = load_comparison(config, rounds, None if seeds is None else seeds_of(seeds))
    with progress_bar("playing", left=True) as watch:
        rows = Comparison(cases, config.parent, folder, workers or processors(), ledger, watch).rows()
    failures = [row for row in rows if row.error is not None]
    for told in dict.fromkeys(f"{row.mechanism}, {row.population}: {row.error}" for row in failures):
        err.print(told, markup=False)
    if folder is not None:
        _write(folder, rows)
    if format_ is BenchFormat.JSON:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        print_rows(table_cells(rows), "Means over seeds")
        print_rows(utility_cells(rows), "What an agent gains: pay less cost, in units")
        out.print(COLUMNS, markup=False)
    if failures:
        raise typer.Exit(ExitCode.FAILURE)


def _write(folder: Path, rows: Sequence[ComparisonRow]) -> None:
    """Write table, document and picture; what has no run to show is left out."""
    from fedledger.platform.incentives.populations.pictures import write_png
    from fedledger.platform.incentives.populations.tables import csv_table

    (folder / "comparison.csv").write_text(csv_table(rows), encoding="utf-8", newline="")
    (folder / "comparison.json").write_text(json.dumps({"rows": [asdict(row) for row in rows]}) + "\n")
    if any(row.error is None for row in rows):
        write_png(folder / "comparison.png", rows)


def incentives_market(
    config: Annotated[Path, typer.Argument(help="the market, a TOML file")],
    seed: Annotated[int | None, typer.Option(min=0, help="override the configuration's seed")] = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Play several publishers' tasks at the same time, among which the same agents choose period by period.

    It plays without a ledger. The first table has the tasks, the second what agents gained, and the third who chose
    which task; see docs/incentives.md.
    """
    from fedledger.platform.incentives.populations.market import Market, load_market
    from fedledger.platform.incentives.populations.tables import COLUMNS, table_cells, utility_cells

    market, experiments = load_market(config, seed)
    with progress_bar("playing") as watch:
        outcome = Market(market, experiments, config.parent).play(watch)
    if format_ is BenchFormat.JSON:
        print_json(asdict(outcome))
        return
    print_rows(table_cells(outcome.rows, "publisher"), "Publishers")
    print_rows(utility_cells(outcome.rows, "publisher"), "What an agent gains from each: pay less cost, in units")
    print_rows(_periods(market, outcome), "How many agents chose each task, and units that it had paid by then")
    for row in outcome.rows:
        if row.stopped is not None:
            out.print(f"{row.population} ended early: {row.stopped}", markup=False)
    out.print(COLUMNS, markup=False)


def _periods(market: MarketConfig, outcome: MarketOutcome) -> list[dict[str, str]]:
    """Return a line for each period."""
    names = [publisher.name for publisher in market.publishers]
    return [
        {"from round": str(period.first)}
        | {name: f"{chose} ({paid:,})" for name, chose, paid in zip(names, period.chose, period.paid, strict=True)}
        for period in outcome.periods
    ]
