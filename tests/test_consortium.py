"""Owners of data take part with separate programs, each of which sees its own folder, the chain and the store."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fedledger.contracts.chain.development import free_port
from fedledger.learning.schemas.columns import Reading
from fedledger.learning.schemas.tables import fit_tables
from fedledger.learning.sources.tables import read_tables
from fedledger.protocol.errors import ExitCode
from fedledger.protocol.records.data_schema import TableSchema, read_schema
from support.command_line import Call, caller
from support.consortium import ENVIRONMENT, Consortium, consortium
from support.rows import rows_elsewhere

EASY = {"challenge_window": 0, "penalty_gwei": 0, "rounds": 3, "max_participants": 3}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    with consortium(tmp_path_factory.mktemp("task"), 1) as made:
        made.draft(**EASY)
        made.publisher.json("task", "post", "task.toml")
        yield made


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: Consortium) -> Call:
    """Call the command line in the owner's folder."""
    monkeypatch.chdir(task.owners[0].folder)
    called = caller(monkeypatch, capsys)
    place = task.owners[0].place
    return lambda *words: called(*words, *(place[:4] if words[0] == "task" else place))


def test_a_second_copy_says_so_and_stops(task: Consortium, call: Call) -> None:
    (owner,) = task.owners
    owner.take_part("--experiment-seed", 0, "--participant", 0)
    assert owner.program is not None
    while not [*owner.folder.glob("journal/*/*.lock")]:
        assert owner.program.poll() is None
        time.sleep(0.05)
    code, _, told = call("node", "start", "node.toml", "--experiment-seed", 0, "--participant", 0)
    owner.kill()
    assert code == ExitCode.CONFIG and "Another copy of this node" in told


def test_what_does_not_fit_is_told_before_any_stake(task: Consortium, call: Call) -> None:
    folder = task.owners[0].folder
    lines = (folder / "own.csv").read_text().splitlines()
    (folder / "other.csv").write_text("\n".join([lines[0].replace("mean_area", "area"), *lines[1:]]) + "\n")
    (folder / "other.toml").write_text('[data]\ntable = "other.csv"\n')
    code, out, _ = call("node", "check", "other.toml", "--format", "json")
    found = json.loads(out)
    assert code == ExitCode.CONFIG and not found["fits"]
    assert [each["column"] for each in found["findings"] if each["serious"]] == ["mean_area"]
    code, _, told = call("node", "start", "other.toml", "--experiment-seed", 0, "--participant", 5)
    assert code == ExitCode.CONFIG and 'columns = { "mean_area" = "area" }' in told
    (folder / "other.toml").write_text('[data]\ntable = "other.csv"\ncolumns = { "mean_area" = "area" }\n')
    code, out, _ = call("node", "check", "other.toml", "--format", "json")
    assert code == 0 and json.loads(out)["fits"]


def test_the_posted_schema_is_the_drafted_one(task: Consortium) -> None:
    schemas = [path for path in task.store.rglob("*") if path.is_file() and b'"kind":"table"' in path.read_bytes()]
    (schema,) = (read_schema(path.read_bytes()) for path in schemas)
    assert isinstance(schema, TableSchema)
    own = fit_tables(schema, read_tables(task.owners[0].folder / "own.csv", ","), Reading({"?"}))
    assert own.required().inputs.shape == (90, 30) and np.abs(own.required().inputs).max() < 20


@pytest.mark.parametrize(
    "wrong",
    [
        "name = 1\n",
        "[data]\n",
        '[data]\ntable = "none.csv"\n',
        "[data\n",
        'x = "y"\n',
        '[data]\nscript = "none.py"\n',
        '[data]\nsource = { method = "digits@1" }\n',
        '[data]\ntable = "own.csv"\ndelimiter = ";"\n',
        '[data]\ntable = "own.csv"\nmissing_in = { none = ["0"] }\n',
    ],
)
def test_a_node_s_configuration_that_cannot_be_is_refused_in_a_sentence(
    task: Consortium, call: Call, wrong: str
) -> None:
    (task.owners[0].folder / "wrong.toml").write_text(wrong)
    code, _, told = call("node", "check", "wrong.toml")
    assert code == ExitCode.CONFIG and "Traceback" not in told


def test_a_task_is_priced_before_it_is_posted(task: Consortium, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(task.publisher.folder)
    code, out, _ = call("task", "check", "task.toml", "--format", "json")
    assert code == 0
    price = json.loads(out)["price"]
    budget = 3 * 100_000 * 10 * 10**9
    assert price["budget"] == str(budget) and price["participants"] == [3, 3] and price["rounds"] == 3
    assert price["round_seconds_at_most"] == 1800


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("inputs = 30", "inputs = 7", "The columns make 30 inputs, and the model takes 7"),
        ("seed = 0", "seed = -1", "seed"),
        ("rounds = 3", "rounds = 0", "rounds"),
        ("max_participants = 3", "max_participants = 5000", "max_participants"),
        ('name = "malignant"', 'name = "none"', "no column 'none'"),
        ('table = "validation.csv"', 'table = "none.csv"', "no table"),
        ("least_examples = 20", "least_examples = 50", "asks for 50"),
    ],
)
def test_a_task_that_cannot_be_is_refused_in_a_sentence(
    task: Consortium, call: Call, monkeypatch: pytest.MonkeyPatch, old: str, new: str, told: str
) -> None:
    monkeypatch.chdir(task.publisher.folder)
    text = Path("task.toml").read_text()
    assert old in text
    Path("wrong.toml").write_text(text.replace(old, new))
    code, _, message = call("task", "check", "wrong.toml")
    assert code == ExitCode.CONFIG and told in message and "Traceback" not in message


@pytest.mark.long
def test_the_example_runs_word_for_word(tmp_path: Path, root: Path) -> None:
    """All lines of its README, in one shell, on another port than a reader's."""
    (tmp_path / "examples").symlink_to(root / "examples")
    (tmp_path / ".venv").symlink_to(root / ".venv")
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", (root / "examples" / "consortium" / "README.md").read_text())
    port = str(free_port())
    script = "\n".join(blocks).replace("8545", port).replace("chain up anvil", f"chain up anvil --port {port}")
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "reproduced" in done.stdout and "updates were accepted" in done.stdout
    folder = tmp_path / "consortium"
    for number in (1, 2, 3):
        assert not rows_elsewhere(folder, folder / f"hospital{number}")
        assert "verifiers serve it" in (folder / f"hospital{number}" / "log").read_text()
