"""What a run leaves behind: summary, metrics, model, exported ledger and report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fedledger.ledger_tools.audit.export import LEDGER_FILE, export_ledger
from fedledger.ledger_tools.report.device_tables import task_flushes, task_rows, totals, write_devices
from fedledger.ledger_tools.report.run_report import write_report
from fedledger.ledger_tools.report.tables import participants_frame, pay_frame, reputations_frame, verdicts_frame
from fedledger.platform.engine.with_ledger import Run
from fedledger.platform.experiment.accounts import experiment_address, participant_role
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.run_files import METRICS_FILE, MODEL_FILE, SUMMARY_FILE
from fedledger.protocol.encoding import canonical
from fedledger.protocol.records.report import BASE
from fedledger.protocol.records.verdicts import Verdict
from fedledger.protocol.schedules.devices import MICRO
from fedledger.storage.base import ContentStore


def summary(run: Run, experiment: Experiment) -> dict[str, Any]:
    """Return what a run came to, as JSON."""
    participants = participants_frame(run.history, run.task.id).to_dict("records")
    behaviours = behaviours_by_address(experiment)
    return {
        "task": run.task.id,
        "name": experiment.config.name,
        "seed": experiment.config.seed,
        "rounds": len(run.task.settled),
        "accuracy": run.accuracy,
        "final_model": run.task.model.cid,
        "spec": run.task.spec.cid,
        "seconds": round(run.seconds, 3),
        "chain": run.ledger.chain.capabilities.client,
        "gas": run.gas,
        "challenge_window": int(run.task.params["challengeWindow"]),
        "participants": [
            {
                "address": row["address"],
                "behaviour": behaviours[row["address"]],
                "accepted": row["accepted"],
                "refused": row["refused"],
                "reputation": row["reputation"],
                "credit": row["credit"],
            }
            for row in participants
        ],
    }


def behaviours_by_address(experiment: Experiment) -> dict[str, str]:
    """Return each participant's behaviour; known here because the experiment made them."""
    seed = experiment.config.seed
    return {
        experiment_address(seed, participant_role(number)): behaviour
        for number, behaviour in enumerate(experiment.behaviours)
    }


def refusals(run: Run, store: ContentStore) -> list[dict[str, Any]]:
    """Return every update that was not accepted, with the reason and detail of its report."""
    rows = []
    for r in run.task.settled:
        if r.proposal is None:
            continue
        report = canonical.decode(store.get(r.proposal.report))
        for update in report["updates"]:
            if update["verdict"] != Verdict.ACCEPTED.label:
                rows.append(
                    {
                        "round": r.index,
                        "address": update["participant"],
                        "reason": update["verdict"],
                        "detail": update["detail"] or _measured(report["measurements"][BASE], update["measurement"]),
                    }
                )
    return rows


def _measured(base: dict[str, int], update: dict[str, int] | None) -> str:
    """Say what a step along an update did to the held-out examples."""
    if update is None:
        return ""
    losses = f"{base['loss'] / 1e6:.4f} to {update['loss'] / 1e6:.4f}"
    return f"held-out loss {losses}, right answers {base['correct']} to {update['correct']}"


def write_results(
    run: Run, experiment: Experiment, store: ContentStore, folder: Path, plain_mean: Sequence[float]
) -> dict[str, Any]:
    """Write everything into the run's folder and return the summary."""
    document = summary(run, experiment)
    flushes = task_flushes(run.history, run.task, experiment.spec, store)
    devices = task_rows(run.task, experiment.spec, flushes)
    told = [{**row, "time_us": flushes[row["round"]].time_us} if flushes else row for row in run.metrics]
    if flushes:
        write_devices(folder, devices)
        document["devices"] = {"simulated_seconds": told[-1]["time_us"] / MICRO, **totals(devices)}
    export_ledger(run.ledger, run.deployment, run.history).write(folder / LEDGER_FILE)
    (folder / MODEL_FILE).write_bytes(store.get(run.task.model))
    metrics = pd.DataFrame(told)
    if plain_mean:
        metrics["plain_mean_accuracy"] = pd.Series(plain_mean).head(len(metrics))
    metrics.to_csv(folder / "metrics.csv", index=False)
    rows = metrics.astype(object).where(metrics.notna(), None).to_dict("records")
    (folder / METRICS_FILE).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (folder / SUMMARY_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    refused = refusals(run, store)
    pd.DataFrame(refused, columns=["round", "address", "reason", "detail"]).to_csv(folder / "refusals.csv", index=False)
    window = document["challenge_window"]
    facts = {
        "final model": document["final_model"],
        "spec": document["spec"],
        "test accuracy": f"{document['accuracy']:.2%}",
        "rounds": document["rounds"],
        "chain": document["chain"],
        "gas": f"{document['gas']:,}",
        "seconds": document["seconds"],
        "challenge window": f"{window} s" if window else "0 s (an experiment)",
    }
    if devices:
        facts["simulated seconds"] = f"{document['devices']['simulated_seconds']:,.3f}"
        facts["joules of all devices"] = f"{document['devices']['joules']:,.3f}"
    write_report(
        folder / "report.html",
        experiment.config.name,
        facts,
        told,
        plain_mean,
        reputations_frame(run.history, run.task.id),
        pay_frame(run.history, run.task.id),
        verdicts_frame(run.history, run.task.id),
        document["participants"],
        refused,
        experiment.label_counts,
        devices,
    )
    return document
