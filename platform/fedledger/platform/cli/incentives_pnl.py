"""The command that counts what attackers earn and lose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.console import err, out, print_json, print_rows, progress_bar
from fedledger.platform.cli.options import expand_options
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.storage.machine import processors

if TYPE_CHECKING:
    from fedledger.platform.incentives.pnl.cases import Case
    from fedledger.platform.incentives.pnl.runs import Row


class ProfitFormat(StrEnum):
    """How profit and loss are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True)
class ProfitOptions:
    """What is played."""

    strategies: Annotated[
        str | None, typer.Option(help="which, separated by commas, such as free_rider_zero,sybils (default: all)")
    ] = None
    mechanisms: Annotated[
        str,
        typer.Option(
            help="of proportional@1, fixed@1, proportional_share@1, vcg@1 and by_examples (proportional@1 with pay by "
            "committed examples), separated by commas"
        ),
    ] = "proportional@1,fixed@1,proportional_share@1"
    stakes: Annotated[
        str,
        typer.Option(
            help="stakes of one name in gwei, separated by commas; planned: what spot-check plan has. A planned "
            "penalty above the stake is lowered to it"
        ),
    ] = "planned,1000000"
    rates: Annotated[str, typer.Option(help="shares of the accepted updates that are checked, above 0, by commas")] = (
        "0.05,0.2"
    )
    seeds: Annotated[str, typer.Option(help="FIRST..LAST, or numbers separated by commas")] = "1..3"
    owners: Annotated[int, typer.Option(min=6, max=60, help="people with data of their own")] = 8
    rounds: Annotated[int, typer.Option(min=4, max=500, help="rounds of each run")] = 8
    alpha: Annotated[float, typer.Option(min=0.01, max=1000.0, help="concentration of the classes' division")] = 1.0
    joule: Annotated[float, typer.Option(min=0.0, max=1e9, help="credit units that a device's joule is worth")] = (
        4_000.0
    )
    second: Annotated[float, typer.Option(min=0.0, max=1e9, help="credit units that a device's second is worth")] = (
        4_000.0
    )

    def cases(self) -> list[Case]:
        """Return the cases, or raise ConfigError if one cannot be."""
        from fedledger.platform.bench.option_lists import listed
        from fedledger.platform.bench.robustness_options import seeds_of
        from fedledger.platform.incentives.pnl.cases import Size
        from fedledger.platform.incentives.pnl.devices import Prices
        from fedledger.platform.incentives.pnl.runs import cases
        from fedledger.platform.incentives.pnl.strategies import STRATEGIES

        return cases(
            list(STRATEGIES) if self.strategies is None else listed(self.strategies, "--strategies"),
            listed(self.mechanisms, "--mechanisms"),
            listed(self.stakes, "--stakes"),
            [_rate(each) for each in listed(self.rates, "--rates")],
            seeds_of(self.seeds),
            Size(self.owners, self.rounds, alpha=self.alpha, prices=Prices(self.joule, self.second)),
        )


@dataclass(frozen=True)
class ProfitFiles:
    """What is written of it."""

    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="folder to which each finished run is added, and from which one goes on; at the end it has "
            "profit-and-loss.png, profit-and-loss.json and profit-and-loss.csv, too",
        ),
    ] = None
    document: Annotated[
        Path | None, typer.Option(help="document whose table is to be written anew, such as docs/profit-and-loss.md")
    ] = None

    def text(self) -> str | None:
        """Return the document's text if there is one, or raise ConfigError if it has no place for the table."""
        from fedledger.platform.bench.tables import marked_document
        from fedledger.platform.incentives.pnl.tables import COMMAND

        return None if self.document is None else marked_document(self.document, COMMAND)

    def write(self, rows: Sequence[Row], text: str | None) -> None:
        """Write all that is asked for; without rows nothing."""
        from fedledger.platform.incentives.pnl.pictures import write_png
        from fedledger.platform.incentives.pnl.tables import csv_table, documents, with_tables

        if not rows:
            return
        if self.folder is not None:
            name = self.folder / "profit-and-loss"
            name.with_suffix(".csv").write_text(csv_table(rows), encoding="utf-8", newline="")
            name.with_suffix(".json").write_text(json.dumps({"rows": documents(rows)}) + "\n", encoding="utf-8")
            write_png(name.with_suffix(".png"), rows)
        if self.document is not None and text is not None:
            self.document.write_text(with_tables(text, rows), encoding="utf-8")


@expand_options
def incentives_pnl(
    played: ProfitOptions,
    written: ProfitFiles,
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one for each processor)")] = None,
    format_: Annotated[
        ProfitFormat, typer.Option("--format", help="table of means; JSON or CSV of all runs on stdout")
    ] = ProfitFormat.TABLE,
) -> None:
    """Count what attackers earn and lose on the contracts, beside the same people being honest.

    Each run trains on committed data, has its updates checked, and plays all transactions on an embedded chain; then
    everybody withdraws, and all money is counted to the wei. Who is checked follows from the chain's blocks, so profit
    differs from run to run where a check fails; the expected profit does not. Runs that --out holds of the same
    configuration are not played again. The exit code is 1 if a run fails. See docs/profit-and-loss.md.
    """
    from fedledger.platform.incentives.pnl.runs import Campaign
    from fedledger.platform.incentives.pnl.tables import COLUMNS, csv_table, documents, table_cells

    chosen, text = played.cases(), written.text()
    with progress_bar("playing", left=True) as watch:
        rows, faults = Campaign(chosen, written.folder, workers or processors(), watch).rows()
    for told in faults:
        err.print(told, markup=False)
    written.write(rows, text)
    if format_ is ProfitFormat.JSON:
        print_json({"rows": documents(rows)})
    elif format_ is ProfitFormat.CSV:
        print(csv_table(rows), end="")
    else:
        print_rows(table_cells(rows), "Profit and loss, means over seeds")
        out.print(COLUMNS, markup=False)
    if faults:
        raise typer.Exit(ExitCode.FAILURE)


def _rate(text: str) -> int:
    """Return a share in parts per million."""
    from fedledger.protocol.records.reputation import PPM

    try:
        rate = round(float(text) * PPM)
    except (ValueError, OverflowError):
        rate = 0
    if not 0 < rate <= PPM:
        raise ConfigError(f"--rates is {text[:40]!r}, which is no share.", "Give for example --rates 0.05,0.2.")
    return rate
