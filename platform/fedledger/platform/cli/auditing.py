"""Audits on the command line: of a run's folder, of a live ledger, and of an experiment's training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from fedledger.platform.cli.console import Format, FormatOption, out, print_json, progress_bar
from fedledger.platform.cli.context import SealOptions, open_ledger
from fedledger.platform.cli.ledger import ExportedRunArgument, LiveRpcOption
from fedledger.platform.cli.options import (
    SealKeyOption,
    StoreFolderOption,
    StoreOption,
    TaskOption,
    TrustOption,
)
from fedledger.protocol.errors import ConfigError, ExitCode, StoreError
from fedledger.protocol.text import shown

if TYPE_CHECKING:
    from fedledger.ledger_tools.audit.audit import AuditResult
    from fedledger.platform.runs.training_replay import TrainingReplay
    from fedledger.storage.base import ContentStore

audit_app = typer.Typer()

TOLD = 10
"""Participants whose first difference is told as text."""


@audit_app.command()
def audit(
    run_dir: ExportedRunArgument = None,
    rpc: LiveRpcOption = None,
    deployment: Annotated[Path | None, typer.Option(help="deployment record of the live ledger")] = None,
    task: TaskOption = 1,
    store: StoreOption = "local",
    store_dir: StoreFolderOption = Path("store"),
    trust_code: TrustOption = None,
    seal_key: SealKeyOption = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="number of processes that replay rounds (default: one per processor)")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="make every update of an experiment again, from the data that it divided")
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="folder with the data that the experiment's configuration names, with --train"),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Replay a task's whole history and report the first divergence.

    The exit code is 0 if everything is reproduced, and 6 if not. A task's own code is executed only with
    --trust-code CID; without it only the exact layer is checked, and the output says so. The CID of other code ends the
    audit with exit code 8. While a task's validation set is sealed, measurements are taken as posted, and the output
    says so; --seal-key is for auditors who have its key.

    With --train participants are trained once more, and the first update that does not follow from its participant's
    data is named. Whether honest updates follow on any processor depends on the solver: see docs/replayable.md.
    """
    trusted, key = frozenset(trust_code or ()), SealOptions(seal_key).read()
    # What it takes is asked for before anything that takes long.
    again = _again(run_dir, data_dir, store, trusted, task) if train else None
    if rpc is not None:
        result = _audit_live(rpc, deployment, store, store_dir)(trusted, task, format_, jobs, key)
    elif run_dir is not None:
        result = audit_folder(run_dir, store, trusted, task, format_, jobs, key)
    else:
        raise ConfigError("There is nothing to audit.", "Give a run's folder, or --rpc and --deployment.")
    document, follows = result.document(), result.reproduced
    if again is not None and result.reproduced:
        with progress_bar("training") as watch:
            found = again(lambda done, of: watch("rounds", done, of))
        _show_training(found, format_)
        document, follows = document | {"training": found.document()}, found.follows
    if format_ is Format.JSON:
        print_json(document)
    if not follows:
        raise typer.Exit(ExitCode.NOT_REPRODUCED)


def _again(
    run_dir: Path | None, data_dir: Path | None, store: str, trusted: frozenset[str], task: int
) -> Callable[[Callable[[int, int], None]], TrainingReplay] | None:
    """Return what trains an experiment again; None if its export is so wrong that the audit has to say it.

    Raises ConfigError or TrustError if something is missing for it.
    """
    from fedledger.ledger_tools.audit.divergence import DivergenceError
    from fedledger.ledger_tools.report.task_view import exported_history
    from fedledger.platform.runs.recorded_experiment import recorded_experiment
    from fedledger.platform.runs.training_replay import replay_training

    if run_dir is None:
        raise ConfigError("Only an experiment can be trained again.", "Give the folder of a run.")
    try:
        known = exported_history(run_dir).task(task)
    except DivergenceError:
        return None
    content = open_run_store(run_dir, store)
    experiment = recorded_experiment(run_dir, data_dir, trusted, content, known)
    return partial(replay_training, known, content, experiment)


def _show_training(found: TrainingReplay, format_: Format) -> None:
    """Print what training again found as text, where text is wanted."""
    if format_ is Format.JSON:
        return
    wrong = sum(found.counts.values())
    state = "[bold green]all the same[/bold green]" if found.follows else f"[bold red]{wrong} do not follow[/bold red]"
    out.print(f"Training: {found.updates} updates made again, {state}")
    if found.unknown:
        out.print(f"{found.unknown} updates are of participants that the experiment does not have: nobody can say")
    if found.unreadable:
        out.print(f"{found.unreadable} updates cannot be read, or are relative to another model")
    for difference in found.differences[:TOLD]:
        count = found.counts[difference.participant]
        out.print(shown(f"The first of {count}: {difference}"), highlight=False, markup=False)
    if len(found.differences) > TOLD:
        out.print(f"and {len(found.differences) - TOLD} more participants; --format json lists them")


def _audit_live(
    rpc: str, deployment: Path | None, store: str, store_dir: Path
) -> Callable[[frozenset[str], int, Format, int | None, bytes | None], AuditResult]:
    """Return what audits a task of a live ledger and shows the result."""
    from fedledger.ledger_tools.audit.audit import audit_chain
    from fedledger.storage.machine import processors
    from fedledger.storage.open import open_store

    if deployment is None:
        raise ConfigError("An audit over --rpc needs --deployment.", "Give the deployment record.")
    if store == "local" and not store_dir.is_dir():
        raise StoreError(f"There is no store in {store_dir}.", "Give the task's with --store-dir, or with --store.")
    ledger, content = open_ledger(rpc, deployment, reading=True), open_store(store, store_dir, reading=True)

    def audited(
        trusted: frozenset[str], task: int, format_: Format, jobs: int | None, key: bytes | None
    ) -> AuditResult:
        with progress_bar("auditing") as watch:
            result = audit_chain(ledger, content, task, trusted, watch, jobs or processors(), key)
        show_audit(result, format_)
        return result

    return audited


def audit_folder(
    folder: Path,
    store: str,
    trusted: frozenset[str],
    task: int,
    format_: Format,
    jobs: int | None = None,
    seal_key: bytes | None = None,
) -> AuditResult:
    """Audit the run in a folder and show the result."""
    from fedledger.ledger_tools.audit.audit import audit_run
    from fedledger.storage.machine import processors

    content = open_run_store(folder, store)
    with progress_bar("auditing") as watch:
        result = audit_run(folder, content, trusted, task, watch, jobs or processors(), seal_key)
    show_audit(result, format_)
    return result


def open_run_store(folder: Path, store: str) -> ContentStore:
    """Return the content of the run in a folder, to be read alone."""
    from fedledger.ledger_tools.audit.audit import STORE_FOLDER
    from fedledger.storage.foreign_folder import inner_folder
    from fedledger.storage.open import open_store

    return open_store(store, inner_folder(folder, STORE_FOLDER), reading=True)


def show_audit(result: AuditResult, format_: Format) -> None:
    """Print the result of an audit as text, where text is wanted."""
    from fedledger.ledger_tools.audit.check_view import told_totals
    from fedledger.ledger_tools.audit.score_view import told_scores
    from fedledger.ledger_tools.fairness import told_figures

    if format_ is Format.JSON:
        return
    verdict = "[bold green]reproduced[/bold green]" if result.reproduced else "[bold red]NOT reproduced[/bold red]"
    if result.reproduced and result.sealed:
        verdict = (
            f"[bold yellow]reproduced, {result.sealed} measurements sealed until their key is opened[/bold yellow]"
        )
    out.print(f"Audit of task {result.task} ({escape(shown(result.source))}): {result.rounds} rounds, {verdict}")
    if result.head is not None:
        out.print(f"Newest block: {result.head}; compare it with the chain's own, or with what others were given")
    if result.measured and result.measurements:
        m = result.measurements
        score, loss_unit, score_unit = ("correct", "micro-nats", "examples")
        if "largest_score" in m:
            score, loss_unit, score_unit = ("score", "millionths of the loss's unit", "of the score")
        out.print(
            f"Measurements: largest deviation {m['largest_loss']} {loss_unit} and {m[f'largest_{score}']} {score_unit} "
            f"(tolerance {m['tolerance_loss']} and {m[f'tolerance_{score}']})"
        )
        if "largest_margin" in m:
            out.print(
                f"Margins: largest deviation {m['largest_margin']} millionths (tolerance {m['tolerance_margin']})"
            )
    if result.checks:
        out.print(told_totals(result.checks))
    if result.scores:
        out.print(f"Scores: {told_scores(result.scores)}", highlight=False)
    for figures in result.fairness.values():
        out.print(f"Fairness of pay, units, over all: {told_figures(figures)}", highlight=False)
    for note in result.notes:
        out.print(shown(note), markup=False)
    if result.first_divergence is not None:
        out.print(shown(f"First divergence: {result.first_divergence}"), highlight=False, markup=False)
