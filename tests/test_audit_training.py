"""Training made again: honest updates follow from their participants' data, and the first that does not is named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedledger.platform.experiment.config import ExperimentConfig
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.recorded_experiment import require_inside
from fedledger.platform.runs.training_replay import TrainingReplay, replay_training
from fedledger.protocol.errors import ConfigError, ExitCode
from support.command_line import caller
from support.world import World, world

SCAFFOLD = 'solver = { method = "scaffold@1", params = { learning_rate = 0.05, batch_size = 16, local_epochs = 1 } }'
PAYLOAD = 'payload = [{ name = "delta", codec = { method = "top_k@1", params = { k = 200 } }, error_feedback = true }]'
ATTACK = '[[attackers]]\nattack = {{ method = "{name}" }}\ncount = 1\n'


def again(w: World, experiment: Experiment | None = None) -> TrainingReplay:
    return replay_training(w.task, w.store, experiment or w.experiment)


@pytest.mark.parametrize(
    ("batched", "max_unfinal", "extra"), [(False, 1, ""), (True, 2, ""), (False, 2, SCAFFOLD), (True, 1, PAYLOAD)]
)
def test_honest_updates_follow_from_their_data(tmp_path: Path, batched: bool, max_unfinal: int, extra: str) -> None:
    terms = {"batched": batched, "max_unfinal": max_unfinal, "extra": extra}
    with world(tmp_path, participants=3, rounds=4, verifiers=0, **terms) as w:
        w.join().play()
        found = again(w)
        assert found.first is None and found.updates == 12 and found.unreadable == 0
        assert found.follows
        # Other data than a participant's own do not give its updates.
        first, second = (w.people[n].access.address for n in (0, 1))
        parts: Any = [w.experiment.parts[number] for number in (1, 0, 2)]
        other = again(w, replace(w.experiment, parts=parts))
        assert other.first is not None and other.first.round == 1 and not other.follows
        assert other.counts == {first: 4, second: 4}
        # What is not of the experiment is not taken for good.
        strangers = again(w, replace(w.experiment, config=w.experiment.config.model_copy(update={"seed": 1})))
        assert (strangers.updates, strangers.unknown) == (0, 12) and not strangers.follows


@pytest.mark.parametrize("name", ["sign_flip@1", "free_rider@1", "label_flip@1"])
def test_an_attacker_is_named_in_its_first_round(tmp_path: Path, name: str) -> None:
    with world(tmp_path, participants=4, rounds=2, verifiers=0, extra=ATTACK.format(name=name)) as w:
        w.join().play()
        found = again(w)
        (hostile,) = (n for n, behaviour in enumerate(w.experiment.behaviours) if behaviour != "honest")
        address = w.people[hostile].access.address
        assert found.counts == {address: 2}
        assert found.first is not None and (found.first.round, found.first.participant) == (1, address)
        assert f"{address} ({name.split('@', maxsplit=1)[0]})" in str(found.first)


def test_the_command_trains_again_and_says_what_does_not_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = caller(monkeypatch, capsys)
    text = 'name = "again"\nparticipants = 3\ncompare_with_mean = false\n'
    text += 'model = { method = "logistic_regression@1", params = { inputs = 64, classes = 10 } }\n'
    text += '[training]\npipeline = "plain"\nrounds = 2\n'
    (tmp_path / "honest.toml").write_text(text)
    (tmp_path / "hostile.toml").write_text(text + ATTACK.format(name="sign_flip@1"))
    for name, code in (("honest", 0), ("hostile", ExitCode.NOT_REPRODUCED)):
        ended, _, _ = call("run", tmp_path / f"{name}.toml", "--chain", "embedded", "--out", tmp_path / name)
        assert ended == 0
        (folder,) = (tmp_path / name).iterdir()
        ended, told, _ = call("audit", folder, "--train", "--jobs", 1, "--format", "json")
        document = json.loads(told)
        assert ended == code and document["reproduced"] and document["training"]["updates"] == 6
        assert bool(document["training"]["differences"]) is bool(code)
    ended, told, _ = call("audit", folder, "--train", "--jobs", 1)
    assert ended == code and "The first of 2: round 1, update of 0x" in told and "(sign_flip)" in told
    ended, _, told = call("audit", "--rpc", "http://127.0.0.1:1", "--deployment", "none.json", "--train")
    assert ended != 0 and "Traceback" not in told


CODE = """
import torch
from fedledger.learning.data import Dataset

def model():
    return torch.nn.Linear(64, 10)
"""


def test_code_of_the_spec_is_run_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stranger's folder may hold modules of the same names as those that honest code imports."""
    call = caller(monkeypatch, capsys)
    (tmp_path / "task.py").write_text(CODE)
    text = 'name = "coded"\nparticipants = 2\ncompare_with_mean = false\ncode = "task.py"\n'
    (tmp_path / "coded.toml").write_text(text + '[training]\npipeline = "plain"\nrounds = 1\n')
    assert call("run", tmp_path / "coded.toml", "--chain", "embedded", "--out", tmp_path / "runs")[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    ended, _, told = call("audit", folder, "--train")
    assert ended == ExitCode.TRUST and "--data-dir FOLDER --trust-code bafk" in " ".join(told.split())
    cid = re.findall(r"bafk\w+", told.replace("\n", ""))[0]
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / "task.py").write_text(CODE + f"open({str(tmp_path / 'seen')!r}, 'w')\n")
    (hostile / "torch.py").write_text(f"open({str(tmp_path / 'seen')!r}, 'w')\n")
    ended, told, _ = call("audit", folder, "--train", "--data-dir", hostile, "--trust-code", cid, "--jobs", 1)
    assert ended == 0 and "2 updates made again, all the same" in told and not (tmp_path / "seen").exists()


@pytest.mark.parametrize("path", ["/dev/zero", "../x.csv", "a/../../x", "C:/x", "..\\x"])
def test_paths_of_a_recorded_configuration_stay_in_the_data_s_folder(tmp_path: Path, path: str) -> None:
    config = ExperimentConfig.model_validate(
        {
            "name": "x",
            "model": {"method": "logistic_regression@1", "params": {"inputs": 2, "classes": 2}},
            "data": {"source": {"method": "csv@1", "params": {"path": path}}},
        }
    )
    for folder in (None, tmp_path):
        with pytest.raises(ConfigError, match="--data-dir" if folder is None else "leads out"):
            require_inside(config, tmp_path, folder, None, frozenset())
