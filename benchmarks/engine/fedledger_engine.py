"""This project's engine without a ledger: two worker processes, exact sums, each round repeatable to the bit.

Usage: python fedledger_engine.py WORKLOAD ROUNDS BEGAN
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.metadata import version
from typing import Any

from workloads import BATCH, CLIENTS, LEARNING_RATE, PER_ROUND, Clock, Workload, load

from fedledger.learning.data import Dataset, Parts
from fedledger.learning.models import build_model, initial_vector
from fedledger.learning.vectors import FlatModel
from fedledger.platform.backends.pool import Pool
from fedledger.platform.config import ExperimentConfig
from fedledger.platform.setting import HONEST, Setting
from fedledger.platform.simulation import Simulation
from fedledger.protocol.cid import ContentRef
from fedledger.protocol.model import ModelFile
from fedledger.protocol.spec import Ref, TaskSpec

WORKERS = 2
MODELS: dict[str, dict[str, Any]] = {
    "digits": {"method": "mlp@1", "params": {"inputs": 64, "hidden": [32], "classes": 10}},
    "mlp": {"method": "mlp@1", "params": {"inputs": 784, "hidden": [200, 200], "classes": 10}},
    "cnn": {"method": "lenet@1"},
}


def setting(workload: Workload, rounds: int) -> Setting:
    """Return the experiment that trains a workload."""
    solver = {"learning_rate": LEARNING_RATE, "batch_size": BATCH, "local_epochs": 1}
    document = {
        "name": workload.name,
        "participants": CLIENTS,
        "model": MODELS[workload.name],
        "training": {
            "rounds": rounds,
            "solver": {"method": "sgd@1", "params": solver},
            "selection": {"method": "uniform@1", "params": {"count": PER_ROUND}},
        },
        "ledger": {"quorum": PER_ROUND},
    }
    config = ExperimentConfig.model_validate(document)
    assert config.model is not None
    make_model = partial(build_model, config.model.method, config.model.params)
    vector = initial_vector(make_model, config.seed)
    initial = ModelFile.of(FlatModel(make_model()).named(vector)).encode()
    spec = TaskSpec(
        name=config.name,
        model=config.model,
        initial_model=Ref.of(ContentRef.of(initial)),
        # Nobody measures updates here.
        validation=Ref.of(ContentRef.of(b"")),
        **{name: getattr(config.training, name) for name in type(config.training).model_fields},
    )
    dataset = Dataset.of(workload.inputs, workload.labels, classes=10)
    return Setting(
        config=config,
        spec=spec,
        contents=(initial,),
        parts=Parts.stretches(dataset, [workload.part(client).stop for client in range(CLIENTS)]),
        test=dataset,
        behaviours=(HONEST,) * CLIENTS,
        make_model=make_model,
    )


def main() -> None:
    """Train for some rounds."""
    name, rounds, began = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    clock = Clock(began)
    experiment = setting(load(name), rounds)
    with Pool(experiment, WORKERS) as pool:
        for played in Simulation(experiment, pool).rounds():
            assert played.accepted == PER_ROUND
            clock.add(played.seconds)
    clock.report(f"fedledger {version('fedledger')}, {WORKERS} worker processes")


if __name__ == "__main__":
    main()
