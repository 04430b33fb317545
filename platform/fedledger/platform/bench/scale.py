"""How memory and time behave with very many participants, round by round."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fedledger.learning.data import Dataset, Parts
from fedledger.platform.engine.backends.base import Backend
from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.engine.federation import play as play_rounds
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import assemble
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.storage.process_memory import ProcessTree, measurable

EXAMPLES, FEATURES, HIDDEN, CLASSES = 14, 64, 32, 10
MEASURED = 64


@dataclass(frozen=True)
class ScaleRow:
    """A round: seconds since the one before ended, and what all processes took then, in 10⁶ bytes; None unless Linux.

    What processes share counts once. With a ledger, its chain is among them.
    """

    round: int
    seconds: float
    memory_mb: float | None


def make_experiment(participants: int, selected: int, rounds: int) -> Experiment:
    """Return an experiment of random examples: what is learned does not matter here."""
    document = {
        "name": "scale",
        "participants": participants,
        "model": {"method": "mlp@1", "params": {"inputs": FEATURES, "hidden": [HIDDEN], "classes": CLASSES}},
        "training": {
            "pipeline": "plain",
            "rounds": rounds,
            "solver": {"method": "sgd@1", "params": {"learning_rate": 0.1, "local_epochs": 1}},
            "selection": {"method": "uniform@1", "params": {"count": selected}},
        },
        "ledger": {"quorum": selected, "batched": True},
    }
    rng, count = np.random.default_rng(0), participants * EXAMPLES
    inputs, labels = rng.random((count, FEATURES), np.float32), rng.integers(0, CLASSES, count)
    dataset = Dataset.of(inputs, labels, classes=CLASSES)
    parts = Parts.stretches(dataset, range(EXAMPLES, count + 1, EXAMPLES))
    shown = dataset.stretch(0, min(count, MEASURED))
    return assemble(ExperimentConfig.model_validate(document), parts, shown, shown)


def play(
    participants: int, selected: int, rounds: int, ledger: bool, watch: Callable[[ScaleRow], None] = lambda row: None
) -> list[ScaleRow]:
    """Play rounds, with a ledger on Anvil or without one, and return what each took."""
    experiment = make_experiment(participants, selected, rounds)
    tree, rows = ProcessTree(os.getpid()), list[ScaleRow]()
    ended = time.perf_counter()

    def end_round(index: int) -> None:
        nonlocal ended
        now = time.perf_counter()
        rows.append(ScaleRow(index, now - ended, tree.pss() / 1e6 if measurable() else None))
        watch(rows[-1])
        # What the measurement took is no round's.
        ended = time.perf_counter()

    with Pool(experiment) as pool:
        if ledger:
            _with_ledger(experiment, pool, end_round)
        else:
            for closed in play_rounds(MemoryRecord(experiment), pool):
                end_round(closed.index)
    return rows


def _with_ledger(experiment: Experiment, backend: Backend, end_round: Callable[[int], None]) -> None:
    from fedledger.contracts.chain.chain import Chain
    from fedledger.contracts.chain.development import running_chain
    from fedledger.platform.engine.with_ledger import run
    from fedledger.storage.local import LocalStore

    with running_chain("anvil") as chain, TemporaryDirectory(prefix="scale", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        run(
            experiment,
            Chain(chain.url),
            LocalStore(folder / "store"),
            folder,
            lambda metrics: end_round(metrics.round),
            backend=backend,
        )


def summary(rows: list[ScaleRow]) -> dict[str, Any]:
    """Return the median seconds a round, the most memory, and the growth of its middle half to half, in percent."""
    half = len(rows) // 2
    document: dict[str, Any] = {"seconds_per_round": float(np.median([row.seconds for row in rows]))}
    sizes = [row.memory_mb for row in rows if row.memory_mb is not None]
    if sizes and half:
        first, last = float(np.median(sizes[:half])), float(np.median(sizes[half:]))
        document |= {"most_memory_mb": max(sizes), "growth_percent": 100 * (last - first) / first}
    return document
