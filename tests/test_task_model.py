"""What a task has come to, for those who want to use it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from fedledger.learning.models.base import build_model
from fedledger.protocol.errors import ExitCode
from fedledger.protocol.records.model import ModelFile
from support.command_line import caller
from support.world import world


def test_a_task_s_model_is_shown_and_loads_in_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = caller(monkeypatch, capsys)
    with world(tmp_path, participants=2, rounds=2, verifiers=0, window=0) as w:
        w.deployment.write(tmp_path / "deployment.json")
        at = ["--rpc", w.chain.where, "--deployment", tmp_path / "deployment.json", "--store-dir", tmp_path / "store"]
        code, _, told = call("task", "model", *at)
        assert code == ExitCode.CONFIG and "no settled round yet" in told
        w.join().play()
        file = tmp_path / "model.safetensors"
        code, told, _ = call("task", "model", *at, "--output", file, "--format", "json")
        document = json.loads(told)
        assert code == 0 and document["round"] == 2 and document["model"] == w.task.model.cid
        expected = ModelFile.decode(w.store.get(w.task.model), w.experiment.spec.tensors).vector
        method = w.experiment.spec.model
        assert method is not None
        module = build_model(method.method, method.params)
        module.load_state_dict(load_file(file))
        found = np.concatenate([p.detach().numpy().ravel() for _, p in sorted(module.named_parameters())])
        assert np.array_equal(np.sort(found), np.sort(expected))
        assert document["loss"] > 0 and 0 < document["score"] <= len(w.experiment.validation.examples()[1])
        assert call("task", "model", *at, "--output", file)[0] == ExitCode.CONFIG
