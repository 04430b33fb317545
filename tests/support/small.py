"""A small experiment, and a run of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedledger.contracts.chain.chain import Chain
from fedledger.platform.engine.with_ledger import Run, run
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment, make_experiment
from fedledger.platform.runs.results import write_results
from fedledger.storage.local import LocalStore

CONFIG = """
name = "small"
participants = {participants}
compare_with_mean = false
model = {{ method = "mlp@1", params = {{ inputs = 64, hidden = [16], classes = 10 }} }}
[data]
partition = {{ method = "dirichlet@1", params = {{ alpha = 1.0, min_examples = 10 }} }}
[training]
rounds = {rounds}
solver = {{ method = "sgd@1", params = {{ learning_rate = 0.1, momentum = 0.9, batch_size = 16, local_epochs = 1 }} }}
detection = [{{ method = "norm@1" }}, {{ method = "near_duplicate@1" }}, {{ method = "held_out@1" }}]
{extra}
"""


@dataclass(frozen=True)
class Small:
    folder: Path
    experiment: Experiment
    run: Run
    summary: dict[str, Any]


def write_config(folder: Path, participants: int = 4, rounds: int = 3, extra: str = "") -> Path:
    path = folder / "config.toml"
    path.write_text(CONFIG.format(participants=participants, rounds=rounds, extra=extra))
    return path


def run_small(folder: Path, chain: Chain, **config: Any) -> Small:
    experiment = make_experiment(load_config(write_config(folder, **config)), folder)
    store = LocalStore(folder / "store")
    finished = run(experiment, chain, store, folder)
    return Small(folder, experiment, finished, write_results(finished, experiment, store, folder, []))
