"""A small experiment, and a run of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.records import COIN, TaskParams
from fedledger.platform.engine.with_ledger import Run, run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.results import write_results
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.storage.local import LocalStore

TERMS = TaskParams(
    spec=ContentRef.of(b"spec"),
    model=ContentRef.of(b""),
    aggregator=COIN,
    rounds=1,
    quorum=1,
    min_participants=1,
    max_participants=1,
    enrol_period=1,
    commit_period=1,
    reveal_period=1,
    propose_period=1,
    challenge_window=0,
    max_unfinal=1,
    randomness=0,
    min_stake=0,
    min_reputation=0,
    bond=0,
    credit_unit=1,
    units_per_round=1,
)
"""Terms of a task for which no chain is needed."""

CONFIG = """
name = "small"
participants = {participants}
compare_with_mean = false
model = {{ method = "mlp@1", params = {{ inputs = 64, hidden = [16], classes = 10 }} }}
[data]
{data}
partition = {{ method = "dirichlet@1", params = {{ alpha = 1.0, min_examples = 10 }} }}
[training]
pipeline = "plain"
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


def write_config(folder: Path, participants: int = 4, rounds: int = 3, extra: str = "", data: str = "") -> Path:
    path = folder / "config.toml"
    text = CONFIG
    if "solver = " in extra:
        text = re.sub("solver = .*\n", "", text)
    path.write_text(text.format(participants=participants, rounds=rounds, extra=extra, data=data))
    return path


def run_small(folder: Path, chain: Chain, **config: Any) -> Small:
    experiment = make_experiment(load_config(write_config(folder, **config)), folder)
    store = LocalStore(folder / "store")
    finished = run(experiment, chain, store, folder)
    return Small(folder, experiment, finished, write_results(finished, experiment, store, folder, []))
