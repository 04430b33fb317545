"""What a run leaves behind: summary, metrics, model, exported ledger and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from fedledger.contracts.ledger.pools import pool_of
from fedledger.ledger_tools.audit.check_view import totals_of
from fedledger.ledger_tools.audit.clock import Clock
from fedledger.ledger_tools.audit.export import LEDGER_FILE, export_ledger
from fedledger.ledger_tools.audit.score_view import totals_of as scores_of
from fedledger.ledger_tools.report.device_tables import as_csv, task_rows, task_server_steps, totals, write_devices
from fedledger.ledger_tools.report.refusals import Refusal
from fedledger.ledger_tools.report.run_report import write_report
from fedledger.ledger_tools.report.run_view import RunView
from fedledger.ledger_tools.report.task_view import TaskView
from fedledger.platform.engine.with_ledger import Run
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.run_files import MODEL_FILE, REFUSALS_TABLE, REPORT_PAGE
from fedledger.platform.runs.fairness import run_fairness
from fedledger.platform.runs.money import money
from fedledger.platform.runs.run_folder import write_record
from fedledger.platform.runs.summary import LedgerSummary
from fedledger.protocol.schedules.devices import MICRO
from fedledger.storage.base import ContentStore


def summary(run: Run, experiment: Experiment, task: TaskView, behaviours: Mapping[str, str]) -> LedgerSummary:
    """Return what is in ``run.json``.

    Parameters
    ----------
    run, experiment
        The finished run.
    task
        Its task, as the ledger tells it.
    behaviours
        What each participant did, by address.
    """
    config, tested = experiment.config, run.tested.row(experiment.objective.score_name)
    document: LedgerSummary = {
        "task": task.id,
        "name": config.name,
        "seed": config.seed,
        "rounds": len(task.settled),
        "loss": tested["loss"],
        "score": tested["score"],
        "objective": experiment.objective_summary,
        "final_model": task.model.cid,
        "spec": task.spec.cid,
        "seconds": round(run.seconds, 3),
        "fairness": run_fairness(experiment, run.final, {row.address: row.earned for row in task.participants}),
        "chain": run.ledger.chain.capabilities.client,
        "gas": run.gas,
        "challenge_window": task.challenge_window,
        "participants": [
            {
                "address": row.address,
                "behaviour": behaviours[row.address],
                "accepted": row.accepted,
                "refused": dict(row.refused),
                "reputation": row.reputation,
                "credit": row.credit,
            }
            for row in task.participants
        ],
    }
    if totals := totals_of(task.checks):
        document["checks"] = totals
        for told, row in zip(document["participants"], task.participants, strict=True):
            told["checks"] = dict(row.checks)
    if scores := scores_of(task.scores):
        document["scores"] = scores
    if task.reputation_model:
        document["reputation_model"] = task.reputation_model
    document.update(money(experiment, run.attendance, run.metrics))  # type: ignore[typeddict-item]
    if "accuracy" in tested:
        document["accuracy"] = tested["accuracy"]
    return document


def behaviours_by_address(experiment: Experiment) -> dict[str, str]:
    """Return each participant's behaviour; known here because the experiment made them."""
    return {experiment.address(number): behaviour for number, behaviour in enumerate(experiment.behaviours)}


def write_results(
    run: Run, experiment: Experiment, store: ContentStore, folder: Path, plain_mean: Sequence[float]
) -> LedgerSummary:
    """Write everything that a run leaves behind into its folder, and return what is in ``run.json``."""
    document, view = view_of(run, experiment, store, plain_mean)
    if view.devices:
        write_devices(folder, view.devices)
    export_ledger(run.ledger, run.deployment, run.history).write(folder / LEDGER_FILE)
    (folder / MODEL_FILE).write_bytes(experiment.state(run.final))
    write_record(folder, view.summary, view.metrics)
    refusals = [vars(refusal) for refusal in view.refusals]
    text = as_csv(refusals, [field.name for field in fields(Refusal)])
    (folder / REFUSALS_TABLE).write_text(text, encoding="utf-8")
    write_report(folder / REPORT_PAGE, view)
    return document


def view_of(
    run: Run, experiment: Experiment, store: ContentStore, plain_mean: Sequence[float] = ()
) -> tuple[LedgerSummary, RunView]:
    """Return what is in a finished run's ``run.json``, and its view.

    Parameters
    ----------
    run, experiment, store
        The run.
    plain_mean
        Score after each round of the same training with a plain mean; may be empty.

    Raises
    ------
    StoreError
        If a report is missing from the store.
    """
    task = TaskView.of(run.history, run.task.id, Clock.of(run.ledger), spec=experiment.spec)
    behaviours = behaviours_by_address(experiment)
    document = summary(run, experiment, task, behaviours)
    server_steps = task_server_steps(run.history, run.task, experiment.spec, store)
    devices = task_rows(run.task, experiment.spec, server_steps)
    metrics = [{**row, "time_us": server_steps[row["round"]].time_us} if server_steps else row for row in run.metrics]
    if server_steps:
        document["devices"] = {"simulated_seconds": metrics[-1]["time_us"] / MICRO, **totals(devices)}
    if plain_mean:
        means = [*plain_mean, *[None] * len(metrics)]
        metrics = [{**row, "plain_mean_score": mean} for row, mean in zip(metrics, means, strict=False)]
    refusals = task.refusals(store)
    pool = pool_of(run.ledger, run.task.id, run.history) if task.challenge_window else None
    shown = refusals, experiment.label_counts, plain_mean, devices, pool
    view = RunView(document, metrics, task, behaviours, *shown)
    return document, view
