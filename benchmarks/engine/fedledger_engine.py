"""This project's engine without a ledger: two worker processes, exact sums, each round repeatable to the bit.

Usage: python fedledger_engine.py WORKLOAD ROUNDS BEGAN
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

from workloads import PER_ROUND, Clock, Workload, load

from fedledger.learning.data import Dataset, Parts
from fedledger.learning.task_code import load_task_code
from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import assemble
from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment

WORKERS = 2
MODELS: dict[str, dict[str, Any]] = {
    "digits": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [32], "classes": 10}},
    "mlp": {"method": "mlp@1", "params": {"inputs": 784, "hidden": [200, 200], "classes": 10}},
    "cnn": {"method": "lenet@1"},
}
TOKENS = {"method": "tokens@1"}
RECURRENT = b"from workloads import Recurrent as model"


def workload_experiment(workload: Workload, rounds: int, method: str = "sgd@1") -> Experiment:
    """Return the experiment that trains a workload with a solver that takes minibatches."""
    solver = {"learning_rate": workload.learning_rate, "batch_size": workload.batch, "local_epochs": 1}
    sequences = workload.labels.ndim == 2
    document = {
        "name": workload.name,
        "participants": workload.clients,
        **({"code": "workloads.py"} if sequences else {"model": MODELS[workload.name]}),
        "training": {
            "pipeline": "plain",
            **({"objective": TOKENS} if sequences else {}),
            "rounds": rounds,
            "solver": {"method": method, "params": solver},
            "selection": {"method": "uniform@1", "params": {"count": PER_ROUND}},
        },
        "ledger": {"quorum": PER_ROUND},
    }
    dataset = Dataset.of(workload.inputs, workload.labels, classes=None if sequences else 10)
    parts = Parts.stretches(dataset, workload.ends)
    own = load_task_code(RECURRENT, "recurrent", {"recurrent"}) if sequences else None
    # Nobody measures updates here.
    return assemble(ExperimentConfig.model_validate(document), parts, dataset.stretch(0, 1), dataset, own)


def ask_floors_clients(record: MemoryRecord, workload: Workload) -> None:
    """Have a record select, and then ask those whom the floor asks."""
    select, choices, experiment = record.plan.select, workload.chosen(), record.experiment

    def selected(index: int) -> list[str]:
        select(index)
        return sorted(map(experiment.address, next(choices)), key=str.lower)

    record.plan.select = selected  # type: ignore[method-assign]


def main() -> None:
    """Train for some rounds."""
    name, rounds, began = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    clock = Clock(began)
    workload = load(name)
    experiment = workload_experiment(workload, rounds)
    with Pool(experiment, WORKERS) as pool:
        record = MemoryRecord(experiment)
        ask_floors_clients(record, workload)
        for played in play(record, pool):
            assert played.accepted == PER_ROUND
            clock.add(played.seconds)
    clock.report(f"fedledger {version('fedledger')}, {WORKERS} worker processes")


if __name__ == "__main__":
    main()
