"""Commands that run, compare and create experiments."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedledger.platform.cli.auditing import audit_folder
from fedledger.platform.cli.console import (
    Format,
    FormatOption,
    counts,
    err,
    out,
    print_json,
    print_result,
    print_rows,
    progress_bar,
    reputation,
)
from fedledger.platform.cli.context import open_experiment
from fedledger.platform.cli.options import (
    ChainOption,
    ConfigArgument,
    SeedOption,
    StoreOption,
    TrackOption,
    expand_options,
)
from fedledger.platform.cli.progress import heat_map, live_rounds, sweeping
from fedledger.protocol.errors import ExitCode
from fedledger.protocol.text import file_name, shown

if TYPE_CHECKING:
    from fedledger.platform.engine.with_ledger import RoundMetrics
    from fedledger.platform.experiment.experiment import Experiment
    from fedledger.platform.runs.summary import LedgerSummary, MetricsRow, PlainSummary, RunSummary
    from fedledger.platform.runs.sweep import FailedRun

experiments_app = typer.Typer()
config_app = typer.Typer(no_args_is_help=True, help="Configurations of experiments.")

RunsOption = Annotated[Path, typer.Option("--out", help="folder in which the run's own folder is created")]


@dataclass(frozen=True)
class LedgerRunOptions:
    """Where a run with a ledger takes place."""

    chain: ChainOption = "auto"
    store: StoreOption = "local"


@dataclass(frozen=True)
class TrainingOptions:
    """How a run trains, and to what it is logged."""

    backend: Annotated[str, typer.Option(help="where participants train: pool, serial, batched or ray")] = "pool"
    workers: Annotated[
        int | None, typer.Option(min=1, help="number of training processes (default: one per processor)")
    ] = None
    track: TrackOption = None


@experiments_app.command()
@expand_options
def run(
    config: ConfigArgument,
    where: LedgerRunOptions,
    training: TrainingOptions,
    seed: SeedOption = None,
    out_dir: RunsOption = Path("runs"),
    resume: Annotated[Path | None, typer.Option(help="folder of an interrupted run to continue")] = None,
    no_ledger: Annotated[
        bool, typer.Option("--no-ledger", help="only train: the final model is the same, but nothing can be audited")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run an experiment: participants train, commit and reveal; the aggregator evaluates and pays them each round.

    The run's folder receives the final model, the metrics, the content store, the exported ledger and report.html;
    without a ledger, the final model and the metrics.
    """
    from fedledger.platform.experiment.deployment_terms import require_terms
    from fedledger.platform.runs.run_folder import new_run_folder, resumed_run_folder
    from fedledger.protocol.encoding.cid import ContentRef

    experiment = open_experiment(config, seed)
    if not no_ledger:
        params = experiment.task_params(ContentRef.of(experiment.spec.encode()))
        require_terms(params, experiment.ledger_settings(), experiment.config.ledger.standbys)
    if resume is not None:
        folder = resumed_run_folder(resume, not no_ledger)
    else:
        folder = new_run_folder(experiment.config, out_dir)
    document: RunSummary
    if no_ledger:
        document = _run_without_ledger(experiment, folder, training, format_)
    else:
        document = _run_with_ledger(experiment, config.parent, folder, where, training, format_)
    if format_ is Format.JSON:
        print_json(document)


@experiments_app.command()
def sweep(
    config: ConfigArgument,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="path=value,value…, for example training.rounds=10,20; repeatable, every combination is run",
            metavar="SET",
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="seeds with which each combination is run: 0..9 or 1,5,7")] = None,
    ledger: Annotated[bool, typer.Option("--ledger/--no-ledger", help="give each run a ledger of its own")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="number of concurrent runs (default: one per processor)")
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="also report the first round whose score is as good as this")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="folder of the sweep (default: runs/NAME-sweep)")] = None,
    track: TrackOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run a configuration over a grid of values and seeds, skipping the runs that the sweep's folder already has.

    The folder receives one folder per run, a table (sweep.json, sweep.csv) and a plot with bands over seeds
    (sweep.html). An interrupted sweep continues where it stopped. A run that fails does not stop the others; the exit
    code is then 1.
    """
    from fedledger.platform.runs.grid import plan_runs
    from fedledger.platform.runs.sweep import SweepOptions, run_sweep

    runs = plan_runs(config, sets or [], seeds, ledger)
    where = folder or Path("runs") / f"{file_name(runs[0].config.name)}-sweep"
    with sweeping(err, len(runs)) as watch:
        result = run_sweep(runs, config.parent, where, SweepOptions(ledger, jobs, target, tuple(track or ())), watch)
    if format_ is Format.JSON:
        print_json(result.document())
    else:
        print_rows(result.table(), f"{len(result.done)} runs, of which {result.found} were already in {where}")
        out.print(f"Plot: {where / 'sweep.html'}", markup=False)
    for failure in result.failures:
        err.print(_failure_line(failure), highlight=False, markup=False)
    if result.failures:
        raise typer.Exit(ExitCode.FAILURE)


@experiments_app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs")],
    page: Annotated[Path | None, typer.Option("--out", help="HTML file to write the table and a plot to")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Compare runs: what differs between their configurations, and their results."""
    from fedledger.platform.runs.compare import Comparison

    comparison = Comparison.read(runs)
    if page is not None:
        comparison.write_page(page)
    if format_ is Format.JSON:
        print_json(comparison.document())
        return
    print_rows(comparison.table(), f"{len(runs)} runs")
    if page is not None:
        out.print(f"Plot: {page}", markup=False)


@experiments_app.command()
@expand_options
def demo(
    where: LedgerRunOptions,
    seed: SeedOption = None,
    out_dir: RunsOption = Path("runs"),
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run the built-in demonstration and audit it: ten nodes, three of them attackers, learn to read digits."""
    from fedledger.platform.experiment.config import DEMO
    from fedledger.platform.runs.run_folder import new_run_folder

    experiment = open_experiment(DEMO, seed)
    folder = new_run_folder(experiment.config, out_dir)
    document = _run_with_ledger(experiment, DEMO.parent, folder, where, TrainingOptions(), format_)
    result = audit_folder(folder, where.store, frozenset(), 1, format_)
    pays = _pay_by_reputation(experiment, document)
    if format_ is Format.TEXT:
        rows = [
            {"attacker": name, "pay": f"{pay['reputation']:.0%}", "by detection alone": f"{pay['detection_alone']:.0%}"}
            for name, pay in pays.items()
        ]
        print_rows(rows, "What attackers earned of an honest participant's pay, and would have without reputation")
    lines = f"Report: {folder / 'report.html'}   Audit again: fedledger audit {folder}"
    print_result(format_, {**document, "pay": pays, "audit": result.document()}, lines)
    if not result.reproduced:
        raise typer.Exit(ExitCode.NOT_REPRODUCED)


@experiments_app.command()
def new(name: Annotated[str, typer.Argument(help="folder to create")]) -> None:
    """Create a small project that runs as it is: a configuration, and a task.py with a model and data."""
    from fedledger.platform.experiment.template import new_project

    folder = new_project(Path(name))
    out.print(f"Created {folder}. Run it: fedledger run {folder / 'config.toml'}", markup=False)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of configurations."""
    import json

    from fedledger.platform.experiment.config import ExperimentConfig

    print(json.dumps(ExperimentConfig.model_json_schema(), indent=1))


def _pay_by_reputation(experiment: Experiment, document: LedgerSummary) -> dict[str, dict[str, float]]:
    """Return what attackers earned beside an honest participant, and would have by detection alone, by behaviour."""
    from fedledger.platform.engine.detection_alone import pay_beside_honest, shares_by_detection_alone
    from fedledger.platform.experiment.config import DEMO

    rows = document["participants"]
    earned = pay_beside_honest([row["credit"] for row in rows], [row["behaviour"] for row in rows])
    shares = shares_by_detection_alone(experiment.config, DEMO.parent)
    numbers = range(experiment.config.participants)
    alone = pay_beside_honest([sum(each.get(n, 0) for each in shares) for n in numbers], experiment.behaviours)
    return {name: {"reputation": pay, "detection_alone": alone[name]} for name, pay in earned.items()}


def _run_with_ledger(
    experiment: Experiment,
    source: Path,
    folder: Path,
    where: LedgerRunOptions,
    training: TrainingOptions,
    format_: Format,
) -> LedgerSummary:
    from fedledger.platform.engine.backends.choose import open_backend
    from fedledger.platform.runs.ledger_run import open_chain, run_with_ledger
    from fedledger.platform.runs.trackers.base import tracking
    from fedledger.storage.open import open_store

    with ExitStack() as stack:
        # First: forked processes get none of the threads that come now.
        backend = stack.enter_context(open_backend(training.backend, experiment, training.workers))
        chain = stack.enter_context(open_chain(where.chain, folder))
        tracked = stack.enter_context(tracking(training.track or (), experiment.config, folder))
        store = open_store(where.store, folder / "store")
        client = chain.capabilities.client
        err.print(shown(f"{experiment.config.name} on {client} (chain {chain.chain_id})"), style="bold", markup=False)
        _show_partition(experiment, format_)
        watch = stack.enter_context(live_rounds(experiment.objective.score_name))

        def show(row: RoundMetrics) -> None:
            watch(row)
            tracked.show(row)

        document = run_with_ledger(experiment, source, folder, chain, store, show, backend)
        tracked.summary = document
    if format_ is Format.TEXT:
        _print_run(document, folder)
    return document


def _print_run(document: LedgerSummary, folder: Path) -> None:
    from fedledger.ledger_tools.audit.check_view import told_totals
    from fedledger.ledger_tools.audit.score_view import told_scores
    from fedledger.platform.runs.fairness import told
    from fedledger.platform.runs.money import told_money

    model = document.get("reputation_model")
    name = f"reputation by {model}" if model else "reputation"
    rows = [
        {
            "participant": p["address"],
            "behaviour": p["behaviour"],
            "accepted": p["accepted"],
            "refused": counts(p["refused"]),
            name: reputation(p["reputation"]),
            "credit": f"{p['credit']:,}",
            **({"checks": counts(p["checks"]) or "none"} if "checks" in p else {}),
        }
        for p in document["participants"]
    ]
    print_rows(rows, f"{document['rounds']} rounds, {_tested(document)}")
    for line in (*told(document["objective"]["score_name"], document["fairness"]), *told_money(document)):
        out.print(line, markup=False, highlight=False)
    if "checks" in document:
        out.print(told_totals(document["checks"]))
    if "scores" in document:
        out.print(f"Scores: {told_scores(document['scores'])}")
    if not document["challenge_window"]:
        out.print("The task has no challenge window: nobody could dispute a round.")
    out.print(f"Final model {document['final_model']}   gas {document['gas']:,}   {document['seconds']:.1f} s")
    out.print(f"Folder: {folder}", markup=False)


def _tested(document: RunSummary) -> str:
    """Say what a run's final model is worth."""
    names, loss = document["objective"], document["loss"]
    told = "not finite" if loss is None else f"{loss:.4f}"
    return f"test {names['score_name']} {document['score']:.4f}, {names['loss_name']} {told}"


def _run_without_ledger(
    experiment: Experiment, folder: Path, training: TrainingOptions, format_: Format
) -> PlainSummary:
    from fedledger.platform.runs.fairness import told
    from fedledger.platform.runs.money import told_money
    from fedledger.platform.runs.plain_run import run_without_ledger
    from fedledger.platform.runs.trackers.base import tracking

    _show_partition(experiment, format_)
    rounds, score_name = experiment.spec.all_rounds, experiment.objective.score_name
    with tracking(training.track or (), experiment.config, folder) as tracked, progress_bar("training") as watch:

        def show(row: MetricsRow) -> None:
            refused = f", {row['refused']} refused" if row["refused"] else ""
            watch(f"{score_name} {row['score']:.4f}{refused}", row["round"], rounds)
            tracked.log(row)

        document = run_without_ledger(experiment, folder, training.backend, training.workers, show)
        tracked.summary = document
    if format_ is Format.TEXT:
        line = f"{document['rounds']} rounds, {_tested(document)}, {document['seconds']:.1f} s"
        for each in (line, *told(score_name, document["fairness"]), *told_money(document)):
            out.print(each, markup=False, highlight=False)
        out.print(f"Final model {document['final_model']}   folder {folder}", markup=False)
    return document


def _show_partition(experiment: Experiment, format_: Format) -> None:
    table = heat_map(experiment.label_counts)
    if format_ is Format.TEXT and table is not None:
        err.print(table)


def _failure_line(failure: FailedRun) -> str:
    text = f"Failed: {failure.run.name}: {failure.reason}"
    return shown(text if failure.details is None else f"{text} ({failure.details})")
