"""The command that plays attacks against pipelines."""

from __future__ import annotations

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
    from fedledger.platform.bench.robustness import Case, RobustnessRow


@dataclass(frozen=True)
class PlayedOptions:
    """What is played."""

    seeds: Annotated[str, typer.Option(help="FIRST..LAST, or numbers separated by commas")] = "31..35"
    attacks: Annotated[
        str | None,
        typer.Option(
            help="which, separated by commas; published: the eight that comparisons usually play (default: all)"
        ),
    ] = None
    dirichlet: Annotated[
        str, typer.Option(help="concentrations of the classes' division, or iid, separated by commas")
    ] = ".1,.5,iid"
    populations: Annotated[
        str, typer.Option(help="PARTICIPANTS-HOSTILE, or PARTICIPANTS-SHARE%, separated by commas")
    ] = "13-3,10-3,10-4"
    pipelines: Annotated[
        str,
        typer.Option(
            help="default, plain, 0.1.0; aggregation rules, perhaps with a mixing or normalisation in front: median, "
            "trimmed_mean@1(f=2), nnm+krum; rules, nnm+rules: each of them; TOML files with tables training and data; "
            "separated by commas"
        ),
    ] = "default,0.1.0"
    data: Annotated[str, typer.Option(help="digits, mnist, or a folder of images in the IDX format")] = "digits"
    rounds: Annotated[int | None, typer.Option(min=1, help="rounds of each run (default: the demonstration's)")] = None

    def cases(self) -> list[Case]:
        """Return the runs, or raise ConfigError if one cannot be."""
        from fedledger.platform.bench.robustness import cases, conditions
        from fedledger.platform.bench.robustness_options import (
            attacks_of,
            dirichlets_of,
            pipelines_of,
            populations_of,
            seeds_of,
        )

        given = conditions(
            self.data, dirichlets_of(self.dirichlet), populations_of(self.populations), seeds_of(self.seeds)
        )
        return cases(pipelines_of(self.pipelines), [] if self.attacks is None else attacks_of(self.attacks), given)


@dataclass(frozen=True)
class WrittenOptions:
    """What is written of it."""

    heat_map: Annotated[
        list[Path] | None,
        typer.Option("--heat-map", metavar="FILE", help="picture to draw, .png or .html; repeatable"),
    ] = None
    figure: Annotated[
        str,
        typer.Option(
            help="what pictures show: lost (accuracy against the oracle), accuracy, attack_success, refused_honest, "
            "refused_hostile, f1, pay_ratio or reputation_gap"
        ),
    ] = "lost"
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="table of all runs to write")] = None
    document: Annotated[
        Path | None,
        typer.Option(
            help="document whose tables are to be written anew, such as docs/robustness.md: those of rules if any is "
            "played, else those of pipelines"
        ),
    ] = None

    def require(self) -> None:
        """Raise ConfigError if something cannot be written."""
        from fedledger.platform.bench.heat_map import require_figure
        from fedledger.platform.bench.heat_map_files import require_picture

        require_figure(self.figure)
        for picture in self.heat_map or ():
            require_picture(picture)
        if self.csv is not None and not self.csv.parent.is_dir():
            raise ConfigError(f"There is no folder {self.csv.parent} for {self.csv.name}.", "Make it first.")

    def text(self, rules: bool) -> str | None:
        """Return the document's text if there is one, or raise ConfigError if it has no place for the tables."""
        from fedledger.platform.bench.robustness_rule_tables import RULES_COMMAND
        from fedledger.platform.bench.robustness_tables import COMMAND
        from fedledger.platform.bench.tables import marked_document

        return None if self.document is None else marked_document(self.document, RULES_COMMAND if rules else COMMAND)

    def write(self, rows: Sequence[RobustnessRow], text: str | None, rules: bool) -> None:
        """Write all that is asked for."""
        from fedledger.platform.bench.heat_map import HeatMap
        from fedledger.platform.bench.heat_map_files import write_heat_map
        from fedledger.platform.bench.robustness_rule_tables import picture_for, with_rule_tables
        from fedledger.platform.bench.robustness_tables import csv_table, with_tables

        if self.csv is not None:
            self.csv.write_text(csv_table(rows), encoding="utf-8", newline="")
        for picture in self.heat_map or ():
            write_heat_map(picture, HeatMap(rows, self.figure))
        if self.document is not None and text is not None:
            shown = picture_for(self.document, self.heat_map or ())
            tables = with_rule_tables(text, rows, shown) if rules else with_tables(text, rows)
            self.document.write_text(tables, encoding="utf-8")


@expand_options
def bench_robustness(
    played: PlayedOptions,
    written: WrittenOptions,
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one for each processor)")] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="folder to which each finished run is added, and from which one goes on"),
    ] = None,
    format_: BenchFormatOption = BenchFormat.TABLE,
) -> None:
    """Play the attacks against pipelines without a ledger, and show accuracy, refusals, pay and reputation.

    The oracle is the plain mean of the honest alone. A rule is told how many attack, detects nothing and gives each
    update the same weight. A line below the table explains its columns. Runs that --out holds of the same configuration
    are not played again: give a new folder for another version of the program. Whatever the options name is checked
    before the first run; only a rule for which a population is too small fails in its runs. The exit code is 1 if a run
    fails.
    """
    from fedledger.platform.bench.robustness import require_playable
    from fedledger.platform.bench.robustness_pipelines import rule_pipeline
    from fedledger.platform.bench.robustness_runs import Campaign, Kept
    from fedledger.platform.bench.robustness_tables import COLUMNS, goal_cells, table_cells

    chosen = played.cases()
    rules = any(rule_pipeline(case.pipeline) is not None for case in chosen)
    written.require()
    text = written.text(rules)
    require_playable(chosen, played.rounds)
    with progress_bar("playing", left=True) as watch:
        rows = Campaign(chosen, Kept(folder, played.rounds), workers or processors(), watch).rows()
    failures = [row for row in rows if row.error is not None]
    for told in dict.fromkeys(f"{row.pipeline}, {row.hostile} of {row.participants}: {row.error}" for row in failures):
        err.print(told, markup=False)
    written.write(rows, text, rules)
    if format_ is BenchFormat.JSON:
        print_json({"rows": [asdict(row) for row in rows]})
    else:
        print_rows(table_cells(rows), "Means over seeds")
        out.print(COLUMNS, markup=False)
        if goals := goal_cells([row for row in rows if rule_pipeline(row.pipeline) is None]):
            print_rows(goals, "Goals")
    if failures:
        raise typer.Exit(ExitCode.FAILURE)
