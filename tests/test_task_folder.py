"""A task.py in its folder: the modules that it imports travel with it, those of two tasks never mix, data stay."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedledger.learning import code_bundle
from fedledger.learning.code_bundle import decode_code, encode_bundle, read_code
from fedledger.learning.task_code import TaskCode, load_task_code
from fedledger.platform.engine.backends.pool import Pool
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import checked
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, ContentUnreadableError, TrustError

MODEL = "import torch\ndef model():\n    return torch.nn.Linear(3, 2)\n"
HELPED = "from helper import net\ndef model():\n    return net()\n"
NET = "import torch\ndef net():\n    return torch.nn.Linear(3, {width})\n"


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder / "task.py"


def loaded(content: bytes, file: Path | None = None) -> TaskCode:
    cid = ContentRef.of(content).cid
    return load_task_code(content, cid, {cid}, file)


def test_a_file_that_imports_none_of_its_neighbours_is_its_own_content(tmp_path: Path) -> None:
    path = write(tmp_path, {"task.py": MODEL, "helper.py": "1 / 0", "random.py": "", "torch/notes.txt": ""})
    assert read_code(path) == path.read_bytes()
    path.write_text(MODEL + "import random\nimport os.path, sys\nfrom . import nothing\n")
    assert read_code(path) == path.read_bytes()


def test_what_is_imported_in_whatever_way_travels_and_nothing_else(tmp_path: Path) -> None:
    files = {
        "task.py": """
            import layers.dense as dense
            from layers import sizes
            from . import beside
            def model():
                from late import build
                return build(dense.Dense, sizes.WIDTH + beside.ONE)
        """,
        "layers/__init__.py": "from .sizes import WIDTH\n",
        "layers/dense.py": "import torch\nfrom .deep.inner import Base\nclass Dense(Base): pass\n",
        "layers/deep/inner.py": "import torch\nclass Base(torch.nn.Linear): pass\n",
        "layers/sizes.py": "WIDTH = 4\n",
        "layers/unused.py": "1 / 0\n",
        "beside.py": "ONE = 1\n",
        "late.py": """
            import task
            def build(kind, width):
                assert task.dense.Dense is kind and task.model.__globals__ is vars(task)
                return kind(width, 2)
        """,
        "unused.py": "1 / 0\n",
    }
    content = read_code(write(tmp_path, files))
    assert set(decode_code(content)) == {name for name in files if "unused" not in name}
    assert read_code(tmp_path / "task.py") == content
    for code in (loaded(content, tmp_path / "task.py"), loaded(content)):
        model = code.model()
        assert (model.in_features, type(model).__name__) == (5, "Dense")
    assert "layers" not in sys.modules and "helper" not in sys.modules and str(tmp_path) not in sys.path


def test_the_modules_of_two_tasks_never_mix(tmp_path: Path) -> None:
    codes = []
    for width in (4, 5):
        path = write(tmp_path / str(width), {"task.py": HELPED, "helper.py": NET.format(width=width)})
        codes.append(loaded(read_code(path), path))
    assert codes[0].cid != codes[1].cid
    for _ in range(2):
        assert [code.model().out_features for code in codes] == [4, 5]


def test_a_neighbour_comes_before_what_is_installed_but_not_before_the_standard_library(tmp_path: Path) -> None:
    files = {
        "task.py": "import json, sklearn\nassert json.dumps\n" + MODEL.replace("3, 2", "3, sklearn.WIDTH"),
        "sklearn.py": "WIDTH = 7\n",
        "json.py": "1 / 0\n",
    }
    path = write(tmp_path, files)
    assert loaded(read_code(path), path).model().out_features == 7
    import sklearn

    assert not hasattr(sklearn, "WIDTH")


def test_trust_is_in_all_files(tmp_path: Path) -> None:
    path = write(tmp_path, {"task.py": HELPED, "helper.py": NET.format(width=2)})
    before = ContentRef.of(read_code(path)).cid
    mark = tmp_path / "ran"
    (tmp_path / "helper.py").write_text(f"open({str(mark)!r}, 'w')\n" + NET.format(width=2))
    content = read_code(path)
    with pytest.raises(TrustError, match="--trust-code"):
        load_task_code(content, ContentRef.of(content).cid, {before})
    assert not mark.exists()


def test_data_beside_the_file_are_read_where_it_lies_and_elsewhere_the_error_says_how(tmp_path: Path) -> None:
    files = {
        "task.py": HELPED + "from helper import rows\ndef data():\n    return rows(), [0, 1]\n",
        "helper.py": NET.format(width=2)
        + "import numpy\nfrom pathlib import Path\n"
        + "def rows():\n    return numpy.loadtxt(Path(__file__).parent / 'rows.csv', delimiter=',')\n",
        "rows.csv": "1,2,3\n4,5,6\n",
    }
    path = write(tmp_path, files)
    content = read_code(path)
    assert loaded(content, path).data().train.inputs.tolist() == [[1, 2, 3], [4, 5, 6]]
    away = loaded(content)
    assert away.model().out_features == 2
    with pytest.raises(ConfigError, match=r"Data files beside a task.py do not travel"):
        away.data()
    assert not Path(away.module.__file__ or "").parent.exists()


def test_other_mistakes_name_their_remedy(tmp_path: Path) -> None:
    path = write(tmp_path, {"task.py": "open('no such file')\n"})
    with pytest.raises(ConfigError, match=r"Path\(__file__\)\.parent"):
        loaded(read_code(path), path)
    write(tmp_path, {"task.py": "import importlib\nimportlib.import_module('helper')\n"})
    with pytest.raises(ConfigError, match="import statements name them"):
        loaded(read_code(path), path)
    with pytest.raises(ConfigError, match="Check `code`"):
        read_code(tmp_path)
    with pytest.raises(ConfigError, match="Check `code`"):
        read_code(tmp_path / "nothing.py")


def test_tracebacks_show_lines_of_neighbours(tmp_path: Path) -> None:
    path = write(tmp_path, {"task.py": HELPED, "helper.py": "def net():\n    raise KeyError('lost')  # here\n"})
    content = read_code(path)
    for code, where in (
        (loaded(content, path), str(tmp_path)),
        (loaded(content), f"code@{ContentRef.of(content).cid}"),
    ):
        with pytest.raises(ConfigError, match="raised KeyError") as caught:
            code.model()
        shown = "".join(traceback.format_exception(caught.value.__cause__))
        assert f'File "{where}/helper.py", line 2' in shown and "# here" in shown


def test_a_file_that_is_a_link_out_of_the_folder_is_not_published(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text("KEY = 1\n")
    path = write(tmp_path / "project", {"task.py": HELPED})
    (tmp_path / "project" / "helper.py").symlink_to(secret)
    with pytest.raises(ConfigError, match="not a plain file in that folder"):
        read_code(path)


@pytest.mark.parametrize("target", ["helper.py", "/dev/zero", "nowhere", ".."])
def test_a_link_that_leads_to_no_file_is_refused(tmp_path: Path, target: str) -> None:
    path = write(tmp_path, {"task.py": HELPED})
    (tmp_path / "helper.py").symlink_to(target)
    with pytest.raises(ConfigError, match="not a plain file in that folder"):
        read_code(path)


def test_code_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"task.py": f"{MODEL}\nx = {'(' * 300 + ')' * 300}\n"})
    with pytest.raises(ConfigError, match="raised SyntaxError"):
        loaded(read_code(path), path)


def test_a_bundle_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"m{number}.py": "" for number in range(1, 4)}
    path = write(tmp_path, {"task.py": "import m1, m2, m3\n" + MODEL, **files})
    assert len(decode_code(read_code(path))) == 4
    monkeypatch.setattr(code_bundle, "MAX_FILES", 3)
    with pytest.raises(ConfigError, match="more than 3 files"):
        read_code(path)


MAIN = {"task.py": b"x = 1\n"}


def named(**vectors: Any) -> bytes:
    return tensors.encode({"task.py": np.zeros(3, np.uint8), **vectors})


@pytest.mark.parametrize(
    "content",
    [
        tensors.encode({}),
        encode_bundle(MAIN),
        encode_bundle({"helper.py": b"", "other.py": b""}),
        *(
            encode_bundle({**MAIN, name: b""})
            for name in ("../a.py", "/a.py", "a/../b.py", "a", "a.pyc", "1.py", "é.py")
        ),
        *(
            encode_bundle({**MAIN, name: b""})
            for name in ("a//b.py", ".py", "a b.py", "con:.py", "a.py\n", "x" * 65 + ".py")
        ),
        encode_bundle({**MAIN, "/".join("abcdefghi") + ".py": b""}),
        encode_bundle({**MAIN, **{f"m{number}.py": b"" for number in range(code_bundle.MAX_FILES)}}),
        encode_bundle({**MAIN, "a.py": bytes(code_bundle.MAX_BYTES)}),
        named(**{"a.py": np.zeros(3, np.float32)}),
        named(**{"a.py": np.zeros((3, 1), np.uint8)}),
        encode_bundle({**MAIN, "a.py": b"x"}) + b"x",
        bytes(8),
        b"x" * (code_bundle.MAX_BYTES + 1),
    ],
)
def test_what_is_no_bundle_is_refused_before_anything_runs(content: bytes) -> None:
    with pytest.raises(ContentUnreadableError, match="code cannot be read"):
        loaded(content)


def test_files_of_a_bundle_come_back_as_they_were() -> None:
    files = {**MAIN, "a/b_1.py": b"\xff\x00odd", "a/__init__.py": b""}
    assert decode_code(encode_bundle(files)) == files
    assert decode_code(b"plain") == {"task.py": b"plain"}


def out_features(code: TaskCode) -> int:
    return int(code.model().out_features)  # type: ignore[arg-type]


def test_another_process_runs_the_code_again(tmp_path: Path) -> None:
    path = write(tmp_path, {"task.py": HELPED, "helper.py": NET.format(width=6)})
    code = loaded(read_code(path), path)
    assert pickle.loads(pickle.dumps(code)).model().out_features == 6
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(out_features, (code,)) == 6


OWN = {
    "task.py": """
        import numpy as np
        from fedledger.learning.data import Dataset
        from mine import Net, Own
        def model():
            return Net(4, 1)
        def objective():
            return Own()
        def data():
            inputs = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
            return Dataset.of(inputs, (inputs @ np.array([1, 2, 3, 4])).astype(np.float32))
    """,
    "mine.py": """
        import torch
        from fedledger.learning.objectives.own import OwnObjective
        class Own(OwnObjective):
            def loss(self, outputs, targets, inputs):
                return (outputs.squeeze(-1) - targets).abs().mean()
        class Net(torch.nn.Linear):
            pass
    """,
}


def test_processes_that_are_spawned_find_classes_of_the_task_beside_its_file(tmp_path: Path) -> None:
    write(tmp_path, OWN)
    given = {"name": "own", "participants": 3, "code": "task.py", "compare_with_mean": False}
    training = {"pipeline": "plain", "rounds": 2, "objective": None}
    config = checked({**given, "data": {"partition": {"method": "iid@1"}}, "training": training}, "here")
    made = make_experiment(config, tmp_path)
    assert made.objective_summary["name"] == "objective() of task.py"
    models = set()
    for backend in (Serial(made), Pool(made, 2), Pool(made, 2, "spawn")):
        with backend:
            models.add(list(play(MemoryRecord(made), backend))[-1].model.vector.tobytes())
    assert len(models) == 1


CONFIG = """
name = "folder"
participants = 3
code = "task.py"
compare_with_mean = true
[training]
pipeline = "plain"
rounds = 2
"""
PROJECT = {
    "config.toml": CONFIG,
    "task.py": """
        from pathlib import Path
        import numpy as np
        from net.layers import Net
        from fedledger.learning.data import Dataset
        def model():
            return Net()
        def data():
            rows = np.loadtxt(Path(__file__).parent / "rows.csv", delimiter=",")
            return Dataset.of(rows[:, :4].astype(np.float32), rows[:, 4].astype(np.int64), classes=2)
    """,
    "net/__init__.py": "",
    "net/layers.py": """
        import torch
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.last = torch.nn.Linear(4, 2)
            def forward(self, x):
                return self.last(x)
    """,
}


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "fedledger.platform.cli.app", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path, PROJECT)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 4))
    np.savetxt(tmp_path / "rows.csv", np.column_stack([inputs, inputs[:, 0] > 0]), delimiter=",")
    return tmp_path


@pytest.mark.long
def test_a_folder_trains_with_and_without_a_ledger_and_audits_elsewhere(project: Path) -> None:
    config = project / "config.toml"
    models = set()
    for options in (("--no-ledger", "--workers", 2), ("--no-ledger", "--backend", "serial"), ("--chain", "embedded")):
        done = command("run", config, "--out", project / "runs", "--format", "json", *options)
        assert done.returncode == 0, done.stderr
        models.add(json.loads(done.stdout)["final_model"])
    assert len(models) == 1
    (folder,) = (path.parent for path in (project / "runs").glob("*/ledger.jsonl"))
    cid = ContentRef.of(read_code(project / "task.py")).cid
    for name in ("task.py", "rows.csv", "net/layers.py"):
        (project / name).unlink()
    audited = command("audit", folder, "--trust-code", cid, "--format", "json")
    assert audited.returncode == 0, audited.stdout + audited.stderr
    document = json.loads(audited.stdout)
    assert document["reproduced"] and document["measured"] and document["rounds"] == 2
