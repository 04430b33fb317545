"""A run without a ledger, and what it leaves behind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedledger.ledger_tools.report.device_tables import as_csv, flush_rows, totals, write_devices
from fedledger.platform.engine.backends.choose import open_backend
from fedledger.platform.engine.checkpoint import STATES_FOLDER, Checkpoint, CheckpointFile
from fedledger.platform.engine.federation import Round, play
from fedledger.platform.engine.participant_states import ParticipantStates
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.run_files import METRICS_FILE, MODEL_FILE, SUMMARY_FILE
from fedledger.platform.runs.run_folder import begin_run
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.schedules.devices import MICRO
from fedledger.storage.durable_files import write_atomically

CHECKPOINT_SECONDS = 10.0


def run_without_ledger(
    experiment: Experiment,
    folder: Path,
    backend: str,
    workers: int | None = None,
    watch: Callable[[dict[str, Any]], None] = lambda row: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> dict[str, Any]:
    """Run an experiment without a ledger; write ``run.json``, ``metrics.json``, ``metrics.csv``, ``model.safetensors``.

    With a schedule also ``devices.json`` and ``devices.csv``.

    A run that was interrupted goes on from its last checkpoint in the folder, to the same final model.

    Parameters
    ----------
    experiment
        The experiment.
    folder
        The run's folder.
    backend, workers
        Where participants are trained (``pool``, ``serial`` or ``ray``), and in how many processes.
    watch
        Shown each round's row of metrics.
    checkpoint_seconds
        Time between two checkpoints.

    Returns
    -------
    dict
        What is in ``run.json``.

    Raises
    ------
    ConfigError
        If there is no such backend, if the task asks for what needs a ledger, or if the folder is of another run.
    StoreError
        If a checkpoint cannot be read or written.
    """
    began = time.monotonic()
    with open_backend(backend, experiment, workers) as opened:
        states, file = ParticipantStates(folder / STATES_FOLDER), CheckpointFile(folder, experiment.config)
        found = file.load(states)
        begin_run(experiment, folder)
        before, rows = (0.0, []) if found is None else (found.seconds, found.rows)
        record = MemoryRecord(experiment, None if found is None else found.progress, states)
        saved = time.monotonic()
        for closed in play(record, opened):
            if not closed.empty:
                rows.append(_metrics(experiment, closed))
                watch(rows[-1])
            now = time.monotonic()
            if now - saved >= checkpoint_seconds and not record.is_done:
                file.save(Checkpoint(record.progress, rows, before + now - began), states)
                saved = time.monotonic()
        seconds = before + time.monotonic() - began
        # So that a folder that is resumed once more stays as it is.
        file.save(Checkpoint(record.progress, rows, seconds), states)
    model = record.model.encode()
    document = {
        "name": experiment.config.name,
        "seed": experiment.config.seed,
        "rounds": len(rows),
        "accuracy": rows[-1]["accuracy"],
        "final_model": ContentRef.of(model).cid,
        "spec": ContentRef.of(experiment.spec.encode()).cid,
        "seconds": round(seconds, 3),
        "ledger": False,
        "backend": backend,
    }
    table = experiment.device_table
    steps = record.plan.server_steps
    if steps and table is not None:
        sizes = table.bytes_down, table.bytes_up
        devices = [row for step in steps for row in flush_rows(step, step.index, lambda *of: sizes)]
        document["devices"] = {"simulated_seconds": steps[-1].time_us / MICRO, **totals(devices)}
        write_devices(folder, devices)
    write_atomically(folder / MODEL_FILE, model)
    write_atomically(folder / METRICS_FILE, (json.dumps(rows, indent=1) + "\n").encode())
    write_atomically(folder / "metrics.csv", as_csv(rows, list(rows[0])).encode())
    write_atomically(folder / SUMMARY_FILE, (json.dumps(document, indent=1) + "\n").encode())
    return document


def _metrics(experiment: Experiment, closed: Round) -> dict[str, Any]:
    """Return a round's row of metrics."""
    row = {
        "round": closed.index,
        "accuracy": experiment.accuracy(closed.model),
        "accepted": closed.accepted,
        "refused": closed.refused,
        "seconds": round(closed.seconds, 6),
    }
    return row if closed.step is None else {**row, "time_us": closed.step.time_us}
