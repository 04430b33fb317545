"""The command that compares models of reputation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from fedledger.platform.cli.options import expand_options
from fedledger.protocol.errors import ConfigError, ExitCode
from fedledger.storage.machine import processors

if TYPE_CHECKING:
    from fedledger.platform.bench.reputation.figures import Case, ReputationRow


@dataclass(frozen=True)
class ReputationOptions:
    """What is played."""

    models: Annotated[
        str,
        typer.Option(
            help="ledger: its own evidence, as without a model; models, perhaps with parameters, such as beta(loss=6); "
            "models: all of them; separated by commas"
        ),
    ] = "models"
    scenarios: Annotated[
        str | None, typer.Option(help="which, separated by commas, such as whitewashing,on_off (default: all)")
    ] = None
    attacks: Annotated[
        str, typer.Option(help="what attackers send, by the names of bench robustness, separated by commas")
    ] = "sign_flip"
    seeds: Annotated[str, typer.Option(help="FIRST..LAST, or numbers separated by commas")] = "31..35"
    rounds: Annotated[int, typer.Option(min=3, max=10_000, help="rounds of each run")] = 75

    def cases(self) -> list[Case]:
        """Return the cases, or raise ConfigError if one cannot be."""
        from fedledger.platform.bench.option_lists import listed
        from fedledger.platform.bench.reputation.models import models_of
        from fedledger.platform.bench.reputation.runs import cases
        from fedledger.platform.bench.reputation.scenarios import SCENARIOS
        from fedledger.platform.bench.robustness_options import attacks_of, seeds_of

        chosen = list(SCENARIOS) if self.scenarios is None else listed(self.scenarios, "--scenarios")
        return cases(models_of(self.models), chosen, attacks_of(self.attacks), seeds_of(self.seeds), self.rounds)


@dataclass(frozen=True)
class ReputationFiles:
    """What is written of it."""

    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="table of all runs to write")] = None
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="folder to which each finished run is added, and from which one goes on; at the end it has "
            "reputation.png, reputation.json and reputation.csv, too",
        ),
    ] = None
    document: Annotated[
        Path | None,
        typer.Option(help="document whose tables are to be written anew, such as docs/reputation.md"),
    ] = None

    def text(self) -> str | None:
        """Return the document's text if there is one, or raise ConfigError if something cannot be written."""
        from fedledger.platform.bench.reputation.tables import COMMAND
        from fedledger.platform.bench.tables import marked_document

        if self.csv is not None and not self.csv.parent.is_dir():
            raise ConfigError(f"There is no folder {self.csv.parent} for {self.csv.name}.", "Make it first.")
        return None if self.document is None else marked_document(self.document, COMMAND)

    def write(self, rows: Sequence[ReputationRow], text: str | None) -> None:
        """Write all that is asked for; what has no run to show is left out."""
        from fedledger.platform.bench.reputation.pictures import write_png
        from fedledger.platform.bench.reputation.tables import csv_table, with_tables

        table = csv_table(rows)
        if self.csv is not None:
            self.csv.write_text(table, encoding="utf-8", newline="")
        if all(row.error is not None for row in rows):
            return
        if self.folder is not None:
            (self.folder / "reputation.csv").write_text(table, encoding="utf-8", newline="")
            (self.folder / "reputation.json").write_text(json.dumps({"rows": [asdict(row) for row in rows]}) + "\n")
            write_png(self.folder / "reputation.png", rows)
        if self.document is not None and text is not None:
            self.document.write_text(with_tables(text, rows), encoding="utf-8")


@expand_options
def bench_reputation(
    played: ReputationOptions,
    written: ReputationFiles,
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one for each processor)")] = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Play scenarios against models of reputation, and show trust, pay, weight and accuracy beside honest play.

    Each run is real training without a ledger, with the default pipeline and all other settings of a new task. In each
    scenario some leave and come back, wait until they are trusted, split up, lie, or come late; each is also played
    with everybody honest. A line below the table explains its columns. Runs that --out holds of the same configuration
    are not played again: give a new folder for another version of the program. The exit code is 1 if a run fails.
    """
    from fedledger.platform.bench.reputation.runs import Campaign
    from fedledger.platform.bench.reputation.tables import COLUMNS, table_cells

    chosen, text = played.cases(), written.text()
    with progress_bar("playing", left=True) as watch:
        rows = Campaign(chosen, written.folder, workers or processors(), watch).rows()
    failures = [row for row in rows if row.error is not None]
    for told in dict.fromkeys(f"{row.model}, {row.scenario}: {row.error}" for row in failures):
        err.print(told, markup=False)
    written.write(rows, text)
    if format_ is BenchFormat.JSON:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        print_rows(table_cells(rows), "Means over seeds")
        out.print(COLUMNS, markup=False)
    if failures:
        raise typer.Exit(ExitCode.FAILURE)
