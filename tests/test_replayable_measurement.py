"""Exact measurements: what they are, and that an audit tolerates nothing."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from fedledger.aggregator.duties import proposing
from fedledger.aggregator.round.outcome import Content, RoundOutcome
from fedledger.contracts.chain.chain import Chain
from fedledger.learning.metrics import HeldOut, evaluate
from fedledger.learning.models.base import build_model
from fedledger.learning.objectives.classification import Classification
from fedledger.learning.objectives.regression import Regression
from fedledger.learning.replayable import measurement
from fedledger.learning.replayable.descent import replayable
from fedledger.learning.replayable.measurement import ExactObjective
from fedledger.learning.replayable.perceptrons import Perceptrons
from fedledger.learning.vectors import FlatModel
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError
from support import small
from support.replayable import pseudo
from support.replayable_reference import SCALE, Reference

EXACT = 'measurement = "exact"'


def _measured(hidden: list[int], scale: float = 1.0) -> tuple[FlatModel, np.ndarray, HeldOut]:
    model = FlatModel(build_model("mlp@1", {"inputs": 5, "hidden": hidden, "classes": 3}))
    base = pseudo(len(model.vector()), 1) * np.float32(scale)
    labels = np.arange(14) % 3
    return model, base, HeldOut(pseudo(70, 2).reshape(14, 5), labels, ExactObjective(Classification()))


@pytest.mark.parametrize("hidden", [[6, 4], [300]], ids=["doubles", "float32"])
def test_measurements_are_those_of_integers(hidden: list[int]) -> None:
    model, base, held_out = _measured(hidden)
    network = replayable(model, held_out.inputs).network
    flat = network.plan.flat({name: torch.from_numpy(values) for name, values in model.named(base).items()})
    outputs = Reference(network.plan, flat.tolist(), isinstance(network, Perceptrons)).outputs(held_out.inputs.numpy())
    rows = [values[()] for values in outputs]
    losses, margins = [], [[] for _ in range(3)]
    with localcontext() as context:
        context.prec = 50
        for row, label in zip(rows, held_out.targets.tolist(), strict=True):
            logits = [Decimal(z) / 2**SCALE for z in row]
            losses.append(sum(z.exp() for z in logits).ln() - logits[label])
            margins[label].append(logits[label] - sum(logits) / 3)
    found = evaluate(model, [base], held_out)[0]
    assert found.loss == pytest.approx(float(sum(losses) / 14), abs=3e-7)
    assert found.margin == pytest.approx(float(sum(sum(each) / len(each) for each in margins) / 3), abs=1e-5)
    assert found.score == sum(row.index(max(row)) == label for row, label in zip(rows, held_out.targets, strict=True))


def test_measurements_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, base, held_out = _measured([300])
    whole = evaluate(model, [base, base * np.float32(2)], held_out)
    monkeypatch.setattr(measurement, "BATCH", 4)
    monkeypatch.setattr(measurement, "NUMBERS", 1)
    assert evaluate(model, [base, base * np.float32(2)], held_out) == whole


@pytest.mark.parametrize(("hidden", "scale"), [([300], 1e30), ([300], np.nan), ([6], np.inf)])
def test_a_model_beyond_exact_products_is_as_bad_as_can_be(hidden: list[int], scale: float) -> None:
    model, base, held_out = _measured(hidden, scale)
    found = evaluate(model, [base], held_out)[0]
    assert math.isnan(found.loss) and found.score == 0


@pytest.mark.parametrize(("criterion", "loss"), [("squared", 4.0), ("absolute", 2.0), ("huber", 1.5)])
def test_losses_of_numbers_by_hand(criterion: str, loss: float) -> None:
    model = FlatModel(build_model("mlp@1", {"inputs": 2, "hidden": [], "classes": 1}))
    zero = np.zeros(3, np.float32)
    objective = ExactObjective(Regression(criterion=criterion, offset=1.0, scale=3.0))
    found = evaluate(model, [zero], HeldOut(np.ones((2, 2), np.float32), np.array([7.0, -5.0], np.float32), objective))
    assert (found[0].loss, found[0].score) == (loss, 2_000_000)


def _with_replayable(folder: Path, monkeypatch: pytest.MonkeyPatch, extra: str = EXACT, rounds: int = 2) -> small.Small:
    monkeypatch.setattr(small, "CONFIG", small.CONFIG.replace("sgd@1", "replayable_sgd@1"))
    return small.run_small(folder, Chain(), extra=extra, rounds=rounds)


def test_an_audit_under_other_kernels_finds_no_deviation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _with_replayable(tmp_path, monkeypatch)
    command = [sys.executable, "-m", "fedledger.platform.cli.app", "audit", str(run.folder), "--format", "json"]
    other = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
    done = subprocess.run(command, env=os.environ | other, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["reproduced"] and found["measured"]
    assert set(found["measurements"].values()) == {0}


def test_a_measurement_that_is_one_millionth_off_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = proposing.round_outcome

    def lie(*arguments: object) -> RoundOutcome:
        outcome = real(*arguments)  # type: ignore[arg-type]
        document = json.loads(json.dumps(outcome.document))
        document["measurements"]["model"]["loss"] += 1
        return replace(outcome, document=document, report=Content.of(canonical.encode(document)))

    monkeypatch.setattr(proposing, "round_outcome", lie)
    run = _with_replayable(tmp_path, monkeypatch, rounds=1)
    divergence = audit_run(run.folder, task=1).first_divergence
    assert divergence is not None and divergence.field.startswith("measurement of model")


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (f"{EXACT}\ntolerance = {{ loss = 10 }}", "tolerate nothing"),
        (f'{EXACT}\nobjective = {{ method = "multilabel@1" }}', "no exact measurement"),
    ],
)
def test_what_has_no_exact_measurement_is_refused(tmp_path: Path, extra: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_experiment(load_config(small.write_config(tmp_path, extra=extra)), tmp_path)
