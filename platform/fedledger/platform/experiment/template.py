"""A small project to start from."""

from __future__ import annotations

import json
from pathlib import Path

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.text import shown

_CONFIG = """\
# Run: fedledger run config.toml      Every key: fedledger config schema
name = {name}
participants = 4
code = "task.py"

[data]
partition = {{ method = "dirichlet@1", params = {{ alpha = 1.0, min_examples = 10 }} }}

[training]
rounds = 5
# What training minimises and how models are measured; with classes as targets, the default is
# objective = {{ method = "classification@1" }}
# Others: fedledger methods objectives
solver = {{ method = "sgd@1", params = {{ learning_rate = 0.1, momentum = 0.9, batch_size = 16, local_epochs = 2 }} }}
# How updates are judged, aggregated and paid: the default pipeline. See `fedledger methods` for single methods.
pipeline = "default"
"""
_TASK = '''\
"""The task's model and data. Whoever audits this task reads this file before running it."""

import numpy as np
import torch
from fedledger.learning.data import Dataset
from sklearn.datasets import load_breast_cancer


def model() -> torch.nn.Module:
    """Return the model, with any initial parameters."""
    return torch.nn.Sequential(torch.nn.Linear(30, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))


def data() -> Dataset:
    """Return all examples; the configuration says how they are divided."""
    table = load_breast_cancer()
    inputs = (table.data - table.data.mean(axis=0)) / table.data.std(axis=0)
    return Dataset.of(inputs.astype(np.float32), table.target.astype(np.int64), classes=2)
'''


def new_project(folder: Path) -> Path:
    """Write ``config.toml`` and ``task.py`` into a new folder and return it.

    Raises
    ------
    ConfigError
        If the folder exists already.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise ConfigError(f"{folder} exists already.", "Choose another name.") from error
    name = json.dumps(shown(folder.name), ensure_ascii=False)
    (folder / "config.toml").write_text(_CONFIG.format(name=name), encoding="utf-8")
    (folder / "task.py").write_text(_TASK, encoding="utf-8")
    return folder
