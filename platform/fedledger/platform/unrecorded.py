"""A run without a ledger, and what it leaves behind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedledger.platform.backends import cluster, pool, serial  # noqa: F401  (each registers itself)
from fedledger.platform.backends.base import BACKENDS
from fedledger.platform.setting import Setting
from fedledger.platform.simulation import Simulation
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.store import write_atomically


def run_unrecorded(
    setting: Setting,
    folder: Path,
    backend: str,
    workers: int | None = None,
    watch: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Run an experiment without a ledger and write ``run.json``, ``metrics.json`` and ``model.safetensors``.

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

    Returns
    -------
    dict
        What is in ``run.json``.

    Raises
    ------
    ConfigError
        If there is no such backend, or the task asks for what needs a ledger.
    """
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    with BACKENDS.get(f"{backend}@1")(setting, workers) as opened:
        simulation = Simulation(setting, opened)
        for done in simulation.rounds():
            if done.empty:
                continue
            row = {
                "round": done.index,
                "accuracy": setting.accuracy(simulation.model),
                "accepted": done.accepted,
                "refused": len(done.verdicts) - done.accepted,
                "seconds": round(done.seconds, 6),
            }
            rows.append(row)
            watch(row)
    model = simulation.model.encode()
    document = {
        "name": setting.config.name,
        "seed": setting.config.seed,
        "rounds": len(rows),
        "accuracy": rows[-1]["accuracy"],
        "final_model": ContentRef.of(model).cid,
        "seconds": round(time.monotonic() - began, 3),
        "ledger": False,
        "backend": backend,
    }
    write_atomically(folder / "model.safetensors", model)
    write_atomically(folder / "metrics.json", (json.dumps(rows, indent=1) + "\n").encode())
    write_atomically(folder / "run.json", (json.dumps(document, indent=1) + "\n").encode())
    return document
