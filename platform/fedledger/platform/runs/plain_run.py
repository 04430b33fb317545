"""A run without a ledger, and what it leaves behind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedledger.ledger_tools.report.device_tables import as_csv, flush_rows, totals, write_devices
from fedledger.platform.engine.backends.choose import open_backend
from fedledger.platform.engine.checkpoint import STATES_FOLDER, Checkpoints, Reached
from fedledger.platform.engine.participant_states import States
from fedledger.platform.engine.without_ledger import Simulation
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.experiment.run_files import METRICS_FILE, MODEL_FILE, SUMMARY_FILE
from fedledger.platform.runs.run_folder import begin_run
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.schedules.devices import MICRO
from fedledger.storage.durable_files import write_atomically

CHECKPOINT_SECONDS = 10.0


def run_unrecorded(
    setting: Experiment,
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
    setting
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
    with open_backend(backend, setting, workers) as opened:
        states, checkpoints = States(folder / STATES_FOLDER), Checkpoints(folder, setting.config)
        reached = checkpoints.load(states)
        begin_run(setting, folder)
        earlier = 0.0 if reached is None else reached.seconds
        rows = [] if reached is None else reached.rows
        simulation = Simulation(setting, opened, None if reached is None else reached.progress, states)
        saved = time.monotonic()
        for done in simulation.rounds():
            if not done.empty:
                row = {
                    "round": done.index,
                    "accuracy": setting.accuracy(simulation.model),
                    "accepted": done.accepted,
                    "refused": len(done.verdicts) - done.accepted,
                    "seconds": round(done.seconds, 6),
                }
                if done.flush is not None:
                    row["time_us"] = done.flush.time_us
                rows.append(row)
                watch(row)
            now = time.monotonic()
            if now - saved >= checkpoint_seconds and not simulation.is_done:
                checkpoints.save(Reached(simulation.progress, rows, earlier + now - began), states)
                saved = time.monotonic()
        seconds = earlier + time.monotonic() - began
        # So that a folder that is resumed once more stays as it is.
        checkpoints.save(Reached(simulation.progress, rows, seconds), states)
    model = simulation.model.encode()
    document = {
        "name": setting.config.name,
        "seed": setting.config.seed,
        "rounds": len(rows),
        "accuracy": rows[-1]["accuracy"],
        "final_model": ContentRef.of(model).cid,
        "spec": ContentRef.of(setting.spec.encode()).cid,
        "seconds": round(seconds, 3),
        "ledger": False,
        "backend": backend,
    }
    table = setting.device_table
    if simulation.flushes and table is not None:
        sizes = table.bytes_down, table.bytes_up
        devices = [row for f in simulation.flushes for row in flush_rows(f, f.index, lambda *of: sizes)]
        document["devices"] = {"simulated_seconds": simulation.flushes[-1].time_us / MICRO, **totals(devices)}
        write_devices(folder, devices)
    write_atomically(folder / MODEL_FILE, model)
    write_atomically(folder / METRICS_FILE, (json.dumps(rows, indent=1) + "\n").encode())
    write_atomically(folder / "metrics.csv", as_csv(rows, list(rows[0])).encode())
    write_atomically(folder / SUMMARY_FILE, (json.dumps(document, indent=1) + "\n").encode())
    return document
