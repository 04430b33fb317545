"""Runs with scorers on the embedded chain: whom only they catch, and liars among them who change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from fedledger.contracts.chain.chain import Chain
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.engine.with_ledger import Run, run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.platform.runs.results import write_results
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.money import held_by_ledger, owed_by_ledger

CONFIG = """
name = "scored"
participants = {participants}
compare_with_mean = false
model = {{ method = "mlp@1", params = {{ inputs = 64, hidden = [16], classes = 10 }} }}
[data]
partition = {{ method = "dirichlet@1", params = {{ alpha = 1.0, min_examples = 10 }} }}
[training]
pipeline = "plain"
rounds = {rounds}
solver = {{ method = "sgd@1", params = {{ learning_rate = 0.1, momentum = 0.9, batch_size = 16, local_epochs = 2 }} }}
{attackers}
[ledger]
{terms}
"""
