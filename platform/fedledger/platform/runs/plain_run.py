"""A run without a ledger, and what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fedledger.ledger_tools.report.device_tables import server_step_rows, totals, write_devices
from fedledger.platform.engine.backends.base import Backend
from fedledger.platform.engine.backends.choose import open_backend
from fedledger.platform.engine.checkpoint import STATES_FOLDER, Checkpoint, CheckpointFile
from fedledger.platform.engine.federation import Round, play
from fedledger.platform.engine.participant_states import ParticipantStates
from fedledger.platform.engine.standstill import Standstill
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.run_files import MODEL_FILE
from fedledger.platform.experiment.tested import TestedRow
from fedledger.platform.runs.fairness import run_fairness
from fedledger.platform.runs.money import money, money_row
from fedledger.platform.runs.run_folder import begin_run, write_record
from fedledger.platform.runs.summary import MetricsRow, PlainSummary
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.schedules.devices import MICRO
from fedledger.protocol.schedules.events import ServerStep
from fedledger.storage.durable_files import write_atomically

CHECKPOINT_SECONDS = 10.0


def run_without_ledger(
    experiment: Experiment,
    folder: Path,
    backend: str,
    workers: int | None = None,
    watch: Callable[[MetricsRow], None] = lambda row: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> PlainSummary:
    """Run an experiment without a ledger; write ``run.json``, ``metrics.json``, ``metrics.csv``, ``model.safetensors``.

    With a schedule also ``devices.json`` and ``devices.csv``.

    An interrupted run continues from the last checkpoint in its folder, to the same final model.

    Parameters
    ----------
    experiment
        The experiment.
    folder
        The run's folder.
    backend, workers
        Where participants are trained (``pool``, ``serial``, ``batched`` or ``ray``), and in how many processes.
    watch
        Is shown each round's row of metrics.
    checkpoint_seconds
        Seconds between two checkpoints.

    Returns
    -------
    dict
        What is in ``run.json``.

    Raises
    ------
    ConfigError
        If there is no such backend, the task needs a ledger, or the folder is another run's.
    RoundError
        If several rounds in a row are below quorum or of no use; see ``Standstill``.
    StoreError
        If a checkpoint cannot be read or written.
    """
    with open_backend(backend, experiment, workers) as opened:
        record, rows, seconds = _train(experiment, folder, opened, watch, checkpoint_seconds)
    model = record.model.encode()
    write_atomically(folder / MODEL_FILE, experiment.state(record.model))
    tested = experiment.tested(record.model).row(experiment.objective.score_name)
    document: PlainSummary = {
        "name": experiment.config.name,
        "seed": experiment.config.seed,
        "rounds": len(rows),
        "loss": tested["loss"],
        "score": tested["score"],
        "objective": experiment.objective_summary,
        "final_model": ContentRef.of(model).cid,
        "spec": ContentRef.of(experiment.spec.encode()).cid,
        "seconds": round(seconds, 3),
        "fairness": run_fairness(experiment, record.model),
        "ledger": False,
        "backend": backend,
    }
    if "accuracy" in tested:
        document["accuracy"] = tested["accuracy"]
    document.update(money(experiment, record.attendance, rows))  # type: ignore[typeddict-item]
    if devices := _write_devices(experiment, record.plan.server_steps, folder):
        document["devices"] = devices
    write_record(folder, document, rows)
    return document


def _train(
    experiment: Experiment,
    folder: Path,
    backend: Backend,
    watch: Callable[[MetricsRow], None],
    checkpoint_seconds: float,
) -> tuple[MemoryRecord, list[MetricsRow], float]:
    """Play the rounds that are left; return the end, the metrics of all rounds, and the seconds of all attempts."""
    began = saved = time.monotonic()
    begin_run(experiment, folder)
    states, file = ParticipantStates(folder / STATES_FOLDER), CheckpointFile(folder, experiment.config)
    found = file.load(states, experiment.initial)
    before, rows = (0.0, []) if found is None else (found.seconds, found.rows)
    record = MemoryRecord(experiment, None if found is None else found.progress, states)
    counted = any(row["accepted"] for row in rows)
    standstill = Standstill(lambda: experiment.tested(experiment.initial).loss, counted)
    for closed in play(record, backend):
        if closed.counts:
            tested = experiment.tested(closed.model)
            row = _metrics(tested.row(experiment.objective.score_name), closed)
            rows.append(row if record.sums else {**row, **money_row(closed.shares, rows)})
            watch(rows[-1])
            standstill.look(closed, tested.loss)
        now = time.monotonic()
        if now - saved >= checkpoint_seconds and not record.is_done:
            file.save(Checkpoint(record.progress, rows, before + now - began), states)
            saved = time.monotonic()
    standstill.end()
    seconds = before + time.monotonic() - began
    # So that a folder that is resumed once more stays as it is.
    file.save(Checkpoint(record.progress, rows, seconds), states)
    return record, rows, seconds


def _metrics(tested: TestedRow, closed: Round) -> MetricsRow:
    """Return a round's row of metrics, given what its model is worth."""
    row = {
        "round": closed.index,
        **tested,
        "accepted": closed.accepted,
        "refused": closed.refused,
        "seconds": round(closed.seconds, 6),
    }
    return row if closed.step is None else {**row, "time_us": closed.step.time_us}


def _write_devices(experiment: Experiment, steps: Sequence[ServerStep], folder: Path) -> dict[str, Any]:
    """Write what the devices did in a task with a schedule, and return what it comes to."""
    table = experiment.device_table
    if not steps or table is None:
        return {}
    sizes = table.bytes_down, table.bytes_up
    devices = [row for step in steps for row in server_step_rows(step, step.index, lambda *of: sizes)]
    write_devices(folder, devices)
    return {"simulated_seconds": steps[-1].time_us / MICRO, **totals(devices)}
