"""Commands that run, compare and make experiments."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fedledger.platform.cli.console import Format, FormatOption, err, out, print_rows, progress
from fedledger.platform.cli.context import (
    open_content,
    open_experiment,
)
from fedledger.platform.cli.ledger import audit_folder
from fedledger.platform.cli.options import (
    ChainOption,
    SeedOption,
    StoreOption,
    TrackOption,
)
from fedledger.platform.cli.progress import live_rounds
from fedledger.protocol.errors import ConfigError, ExitCode

experiments_app = typer.Typer()
config_app = typer.Typer(no_args_is_help=True, help="Configurations of experiments.")


@experiments_app.command()
def run(
    config: Annotated[Path, typer.Argument(help="TOML file; see `fedledger config schema`")],
    chain: ChainOption = "auto",
    store: StoreOption = "local",
    seed: SeedOption = None,
    out_dir: Annotated[Path, typer.Option("--out", help="folder in which the run's folder is made")] = Path("runs"),
    resume: Annotated[Path | None, typer.Option(help="folder of a run that was interrupted")] = None,
    no_ledger: Annotated[
        bool, typer.Option("--no-ledger", help="train only: the same final model, nothing that could be audited")
    ] = False,
    backend: Annotated[str, typer.Option(help="where participants train: pool, serial, batched or ray")] = "pool",
    workers: Annotated[int | None, typer.Option(min=1, help="processes that train; else one a processor")] = None,
    track: TrackOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run an experiment: participants train, commit, reveal; the aggregator judges, pays and remembers.

    The run's folder gets the final model, metrics, the content store, the exported ledger and report.html; without a
    ledger the final model and metrics.
    """
    if no_ledger:
        _unrecorded(config, seed, out_dir, resume, backend, workers, format_, track or ())
        return
    document, _ = _experiment(config, chain, store, seed, out_dir, resume, format_, backend, workers, track or ())
    if format_ is Format.JSON:
        print(json.dumps(document))


@experiments_app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="TOML file; see `fedledger config schema`")],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="path=value,value: every combination is run; training.rounds=10,20", metavar="SET"),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="0..9 or 1,5,7: each combination is run with each of them")] = None,
    ledger: Annotated[bool, typer.Option("--ledger/--no-ledger", help="each run with a ledger of its own")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="runs at once; as many as processors unless given")] = None,
    target: Annotated[
        float | None, typer.Option(min=0, max=1, help="also tell the first round with this accuracy")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="folder of the sweep; runs/NAME-sweep unless given")
    ] = None,
    track: TrackOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run a configuration over a grid and seeds, side by side; what its folder has already is not run again.

    The folder gets each run's folder, a table (sweep.json, sweep.csv) and a plot with bands over seeds (sweep.html).
    Killed and started again, it goes on with what is missing. Runs that fail end no other; the exit code is then 1.
    """
    from fedledger.platform.cli.progress import sweeping
    from fedledger.platform.runs.grid import plan_runs
    from fedledger.platform.runs.sweep import run_sweep

    runs = plan_runs(config, sets or [], seeds, ledger)
    where = folder or Path("runs") / f"{runs[0].config.name}-sweep"
    with sweeping(err, len(runs)) as watch:
        result = run_sweep(runs, config.parent, where, ledger, jobs, target, watch, track or ())
    if format_ is Format.JSON:
        print(json.dumps(result.document()))
    else:
        print_rows(result.table(), f"{len(result.done)} runs, {result.found} of them found in {where}")
        out.print(f"Plot: {where / 'sweep.html'}")
    for failure in result.failures:
        text = f"Failed: {failure.run.name}: {failure.reason}"
        err.print(text if failure.details is None else f"{text} ({failure.details})", highlight=False, markup=False)
    if result.failures:
        raise typer.Exit(ExitCode.FAILURE)


@experiments_app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs")],
    page: Annotated[Path | None, typer.Option("--out", help="HTML file for table and plot")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Put runs beside each other: what differs between their configurations, and what they came to."""
    from fedledger.platform.runs.compare import Comparison

    comparison = Comparison.read(runs)
    if page is not None:
        comparison.write_page(page)
    if format_ is Format.JSON:
        print(json.dumps(comparison.document()))
        return
    print_rows(comparison.table(), f"{len(runs)} runs")
    if page is not None:
        out.print(f"Plot: {page}")


@experiments_app.command()
def demo(
    chain: ChainOption = "auto",
    store: StoreOption = "local",
    seed: SeedOption = None,
    out_dir: Annotated[Path, typer.Option("--out", help="folder in which the run's folder is made")] = Path("runs"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run the built-in demonstration, then audit it: ten nodes, three of which attack, learn to read digits."""
    from fedledger.platform.experiment.config import DEMO

    document, folder = _experiment(DEMO, chain, store, seed, out_dir, None, format_)
    result = audit_folder(folder, store, frozenset(), 1, format_)
    if format_ is Format.JSON:
        print(json.dumps({**document, "audit": result.document()}))
    else:
        out.print(f"Report: [bold]{folder / 'report.html'}[/bold]   Audit again: fedledger audit {folder}")
    if not result.reproduced:
        raise typer.Exit(ExitCode.NOT_REPRODUCED)


@experiments_app.command()
def new(name: Annotated[str, typer.Argument(help="folder to make")]) -> None:
    """Write a small project (configuration, task.py with model and data) that runs as it is."""
    from fedledger.platform.experiment.template import new_project

    folder = new_project(Path(name))
    out.print(f"Made {folder}. Run it: fedledger run {folder / 'config.toml'}")


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of configurations."""
    from fedledger.platform.experiment.config import ExperimentConfig

    print(json.dumps(ExperimentConfig.model_json_schema(), indent=1))


def _experiment(
    path: Path,
    chain: str,
    store: str,
    seed: int | None,
    out_dir: Path,
    resume: Path | None,
    format_: Format,
    backend: str = "pool",
    workers: int | None = None,
    track: Sequence[str] = (),
) -> tuple[dict[str, Any], Path]:
    from fedledger.platform.engine.backends.choose import open_backend
    from fedledger.platform.runs.ledger_run import open_chain, run_recorded
    from fedledger.platform.runs.trackers.base import tracking

    setting = open_experiment(path, seed)
    folder = _run_folder(setting, out_dir, resume, ledger=True)
    with ExitStack() as stack:
        # First: forked processes get none of the threads that come now.
        trains = stack.enter_context(open_backend(backend, setting, workers))
        opened = stack.enter_context(open_chain(chain, folder))
        tracked = stack.enter_context(tracking(track, setting.config, folder))
        content = open_content(store, folder / "store")
        err.print(f"[bold]{setting.config.name}[/bold] on {opened.capabilities.client} (chain {opened.chain_id})")
        _show_partition(setting, format_)
        with live_rounds() as watch:
            shown = both(watch, tracked.show)
            document = run_recorded(setting, path.parent, folder, opened, content, shown, trains)
        tracked.summary = document
    if format_ is Format.TEXT:
        print_rows(
            [
                {
                    "participant": p["address"],
                    "behaviour": p["behaviour"],
                    "accepted": p["accepted"],
                    "refused": ", ".join(f"{n} {reason}" for reason, n in p["refused"].items()),
                    "reputation": f"{p['reputation'] / 1e6:.3f}",
                    "credit": f"{p['credit']:,}",
                }
                for p in document["participants"]
            ],
            f"{document['rounds']} rounds, test accuracy {document['accuracy']:.1%}",
        )
        if not document["challenge_window"]:
            out.print("No challenge window: this record is of an experiment.")
        out.print(f"Final model {document['final_model']}   gas {document['gas']:,}   {document['seconds']:.1f} s")
        out.print(f"Folder: {folder}")
    return document, folder


def _unrecorded(
    path: Path,
    seed: int | None,
    out_dir: Path,
    resume: Path | None,
    backend: str,
    workers: int | None,
    format_: Format,
    track: Sequence[str],
) -> None:
    from fedledger.platform.runs.plain_run import run_unrecorded
    from fedledger.platform.runs.trackers.base import tracking

    setting = open_experiment(path, seed)
    folder = _run_folder(setting, out_dir, resume, ledger=False)
    _show_partition(setting, format_)
    rounds = setting.spec.rounds
    with tracking(track, setting.config, folder) as tracked, progress("training") as watch:
        shown = both(lambda row: watch(f"{row['accuracy']:.1%}", row["round"], rounds), tracked.log)
        document = run_unrecorded(setting, folder, backend, workers, shown)
        tracked.summary = document
    if format_ is Format.JSON:
        print(json.dumps(document))
    else:
        out.print(f"{document['rounds']} rounds, test accuracy {document['accuracy']:.1%}, {document['seconds']:.1f} s")
        out.print(f"Final model {document['final_model']}   folder {folder}")


def _run_folder(setting: Any, out_dir: Path, resume: Path | None, ledger: bool) -> Path:
    from fedledger.platform.experiment.run_files import CHAIN_FILE, CHECKPOINT_FILE

    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = resume or out_dir / f"{setting.config.name}-{setting.config.seed}-{stamp}"
    if resume is not None and not resume.is_dir():
        raise ConfigError(f"{resume} is no run's folder.", "Give a folder that `fedledger run` made.")
    if resume is not None and (resume / (CHECKPOINT_FILE if ledger else CHAIN_FILE)).exists():
        other, remedy = ("without", "Add") if ledger else ("with", "Leave out")
        raise ConfigError(f"{resume} is of a run {other} a ledger.", f"{remedy} --no-ledger.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def both(first: Callable[[Any], None], second: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return what shows the same to both."""

    def show(what: Any) -> None:
        first(what)
        second(what)

    return show


def _show_partition(setting: Any, format_: Format) -> None:
    from fedledger.platform.cli.progress import heat_map

    table = heat_map(setting.label_counts)
    if format_ is Format.TEXT and table is not None:
        err.print(table)
