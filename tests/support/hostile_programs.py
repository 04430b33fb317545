"""Kinds of hostile files, each with the command that reads one: what the whole-program fuzzing tries.

``python -m support.hostile_programs KIND COUNT`` tells what each mutant of a kind does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fedledger.ledger_tools.audit.export import LEDGER_FILE
from fedledger.platform.experiment.run_files import CHECKPOINT_FILE
from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import ExitCode
from support.hostile import (
    LONG,
    ODD,
    as_json,
    as_toml,
    mutate_file,
    mutate_json_file,
    mutate_lines,
    mutated,
    mutated_bytes,
)
from support.programs import Ended, Programs

MODEL = {"method": "mlp@1", "params": {"inputs": 64, "hidden": [8], "classes": 10}}
SMALL: dict[str, Any] = {
    "name": "small",
    "participants": 3,
    "compare_with_mean": False,
    "model": MODEL,
    "data": {"partition": {"method": "dirichlet@1", "params": {"alpha": 1.0, "min_examples": 10}}},
    "training": {
        "pipeline": "plain",
        "rounds": 2,
        "solver": {
            "method": "sgd@1",
            "params": {"learning_rate": 0.1, "momentum": 0.9, "batch_size": 64, "local_epochs": 1},
        },
    },
}
RICH: dict[str, Any] = SMALL | {
    "seed": 3,
    "participants": 5,
    "attackers": [{"attack": {"method": "sign_flip@1", "params": {}}, "count": 1}],
    "training": SMALL["training"]
    | {
        "detection": [
            {"method": "norm@1", "params": {}},
            {"method": "near_duplicate@1", "params": {}},
            {"method": "held_out@1", "params": {}},
        ],
        "aggregation": {"method": "median@1", "params": {}},
        "optimiser": {"method": "fedadam@1", "params": {}},
        "selection": {"method": "uniform@1", "params": {"count": 4}},
        "stopping": {"patience": 3},
        "tolerance": {"loss": 100, "correct": 2},
        "limits": {"max_update_bytes": 1_000_000},
    },
    "ledger": {"quorum": 2, "challenge_window": 60, "penalty_gwei": 10, "batched": True, "standbys": 1},
}
FLEET: dict[str, Any] = SMALL | {
    "training": SMALL["training"]
    | {
        "schedule": {
            "method": "fedbuff@1",
            "params": {"buffer": 2, "concurrency": 3, "max_staleness": 8},
        },
        "staleness": {"method": "fedbuff@1", "params": {}},
    },
    "ledger": {"max_staleness": 8},
    "devices": {
        "spread": 8.0,
        "cycles_per_example": 10_000_000,
        "battery_j": 1e5,
        "harvest_w": 1.0,
        "kinds": [
            {"share": 1.0, "link": "4g", "rates": "rates.csv", "rates_period_s": 100.0},
            {"share": 2.0, "down_mbps": 10.0, "up_mbps": 1.0, "latency_ms": 5.0, "online": "online.csv"},
            {"shannon": {"bandwidth_mhz": 1.0, "farthest_m": 300.0}},
        ],
    },
}
RATES = b"time_s,down_mbps,up_mbps\n0,10,1\n30,20.5,2\n60,0,0\n"
ONLINE = b"from_s,to_s\n0,1000\n2000,300000\n"
TABLE = "a,b,label\n" + "".join(f"{i},{i * i % 7},{'xyz'[i % 3]}\n" for i in range(120))

TASK_CODE = """
import numpy as np
import torch
from fedledger.learning.data import Dataset


def model():
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))


def data():
    inputs = np.arange(480, dtype=np.float32).reshape(120, 4) / 480
    return Dataset.of(inputs, np.arange(120) % 2, classes=2)
"""
BAD_IMPORTS = (
    "def model(:\n",
    "\0",
    "import nowhere",
    "def f():\n    return f()\nf()",
    "import sys; sys.exit(0)",
    "raise SystemExit('bye')",
    "raise BaseException('\\x1b[31mred')",
    "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
    "raise MemoryError",
    "numbers = bytearray(2**45)",
    "import numpy; numpy.ones(2**42)",
    "import torch; torch.ones(2**42)",
    "print('\\x1b]0;title\\x07\\u202e')",
    "model = 3",
    "(" * 5000,
    "x = " + "+".join("1" for _ in range(50_000)),
)
MODELS = (
    "None",
    "3",
    "torch.nn.Linear(4, 2)(1)",
    "torch.nn.Linear(3, 2)",
    "torch.nn.Linear(4, 1)",
    "torch.nn.Linear(2**40, 2**40)",
    "torch.nn.Identity()",
    "torch.nn.Linear(4, 2, dtype=torch.float64)",
    "torch.nn.Linear(4, 2, dtype=torch.complex64)",
    "torch.nn.Linear(4, 2, device='meta')",
    "torch.nn.LazyLinear(2)",
    "torch.nn.Linear(4, 0)",
    "torch.nn.Module()",
    "torch.nn.Embedding(4, 2)",
    "torch.nn.LSTM(4, 2)",
    "torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Softmax(dim=7))",
    "torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 2))",
    "type('M', (torch.nn.Module,), {'forward': lambda self, x: (_ for _ in ()).throw(KeyError('x'))})()",
    "type('N', (torch.nn.Linear,), {'forward': lambda self, x: x.sum() * float('nan')})(4, 2)",
)
DATA = (
    "None",
    "3",
    "(1, 2)",
    "([], [])",
    "(np.zeros((0, 4), np.float32), np.zeros(0, int))",
    "(np.zeros((120, 4), np.float32), np.zeros(119, int))",
    "(np.zeros((120, 4), np.float32), np.full(120, -1))",
    "(np.zeros((120, 4), np.float32), np.full(120, 2**40))",
    "(np.full((120, 4), np.nan, np.float32), np.arange(120) % 2)",
    "(np.full((120, 4), 1e38, np.float32), np.arange(120) % 2)",
    "(np.zeros((120, 4), complex), np.arange(120) % 2)",
    "(np.zeros((120, 4), object), np.arange(120) % 2)",
    "(np.zeros(120, np.float32), np.arange(120) % 2)",
    "(np.zeros((120, 4), np.float32), np.full(120, 0.5))",
    "(np.zeros((120, 4), np.float32), np.array(['a'] * 120))",
    "(np.zeros((120, 4), np.float32), np.arange(120) % 2, np.arange(7))",
    "Dataset.of(np.zeros((3, 4), np.float32), np.arange(3) % 2, classes=2)",
    "Dataset.of(np.zeros((120, 4), np.float32), np.arange(120) % 2, classes=2**40)",
    "Dataset.of(np.zeros((120, 4), np.float32), np.arange(120) % 2, classes='2')",
    "Dataset.of(np.zeros((120, 4, 4, 4), np.float32), np.arange(120) % 2, classes=2)",
    "(_ for _ in range(2))",
)
CELLS = ("", "nan", "inf", "-inf", "1e400", "1e38", "-0", "1_000", "٣", '"', '"a\nb"', LONG, "?", " 1", "0x1")
SET_VALUES = ("1", "", "=", "a=b", "[", "{x=1}", "1..2", "nan", "'a'", "mean@1", "../../outside", "\x1b[31m", "0" * 300)
SET_KEYS = (
    "training.rounds",
    "name",
    "seed",
    "",
    ".",
    "a..b",
    "training",
    "model.params.hidden.0",
    "attackers.9.count",
)
SEED_TEXTS = ("0..1", "", "1,1", "0..99999999", "-1", "9007199254740992", "٣", "1..0", "0,", "1 .. 2")


DEBUGGING = ", training of participant "
"""At the end of the traceback of a failed training, which the backend ``serial`` is there to show."""


@dataclass(frozen=True)
class Bench:
    """Where mutants are tried: what is mutated, and how commands are started.

    ``rpc`` is a chain with the ledger of ``deployment``.
    """

    runs: dict[str, Path]
    programs: Programs
    rpc: str
    deployment: Path
    key: bytes


Kind = Callable[[Bench, Path, Random], Sequence[object]]
"""Writes a mutant into a folder, and returns the command that reads it."""

KINDS: dict[str, Kind] = {}


def _kind(make: Kind) -> Kind:
    KINDS[make.__name__.lstrip("_")] = make
    return make


def _training(rng: Random) -> list[str]:
    return [*rng.choice((["--no-ledger"], ["--no-ledger"], ["--chain", "embedded"])), "--backend", "serial"]


def _without_work(value: Any) -> bool:
    """Whether a value asks for no more work than there is time for."""
    return not isinstance(value, int | float) or isinstance(value, bool) or not 50 < abs(value) < 2**70


_IDLE = tuple(value for value in ODD if _without_work(value))


@_kind
def configuration(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    document = rng.choice((SMALL, RICH, FLEET))
    (folder / "rates.csv").write_bytes(RATES)
    (folder / "online.csv").write_bytes(ONLINE)
    if rng.random() < 0.85:
        content = as_toml(mutated(document, rng, rng.choice((ODD, _IDLE))))
    else:
        content = mutated_bytes(as_toml(document), rng)
    (folder / "c.toml").write_bytes(content)
    return "run", "c.toml", "--out", "out", *_training(rng)


@_kind
def devices(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    document, traces = FLEET, {"rates.csv": RATES, "online.csv": ONLINE}
    if rng.random() < 0.5:
        document = document | {"devices": mutated(document["devices"], rng)}
    else:
        name = rng.choice(sorted(traces))
        traces[name] = _mutated_table(traces[name], rng)
    for name, content in traces.items():
        (folder / name).write_bytes(content)
    (folder / "c.toml").write_bytes(as_toml(document))
    return "run", "c.toml", "--out", "out", "--no-ledger", "--backend", "serial"


@_kind
def tables(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    (folder / "table.csv").write_bytes(_mutated_table(TABLE.encode(), rng))
    params: dict[str, Any] = {"path": "table.csv", "label": "label"}
    if rng.random() < 0.2:
        params = mutated(params | {"threshold": 1.0, "group": "a", "missing": "?", "delimiter": ","}, rng)
    return _run_on(folder, {"method": "csv@1", "params": params}, {"inputs": 2, "hidden": [4], "classes": 3})


@_kind
def images(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    pixels, labels = np.arange(60 * 144) % 251, np.arange(60) % 3
    files = {
        "train-images-idx3-ubyte": b"\0\0\x08\x03\0\0\0\x3c\0\0\0\x0c\0\0\0\x0c" + bytes(pixels.astype(np.uint8)),
        "train-labels-idx1-ubyte": b"\0\0\x08\x01\0\0\0\x3c" + bytes(labels.astype(np.uint8)),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    chosen = folder / rng.choice(sorted(files))
    data = bytearray(chosen.read_bytes())
    if rng.random() < 0.5:
        data[rng.randrange(8)] = rng.randrange(256)
        chosen.write_bytes(data)
    else:
        mutate_file(chosen, rng)
    model = {"channels": 1, "image_side": 12, "classes": 10}
    return _run_on(folder, {"method": "mnist_idx@1", "params": {"folder": "."}}, model, "lenet@1")


def _run_on(folder: Path, source: Any, params: Any, model: str = "mlp@1") -> Sequence[object]:
    document = SMALL | {
        "data": {"source": source, "partition": {"method": "iid@1", "params": {}}},
        "model": {"method": model, "params": params},
    }
    (folder / "c.toml").write_bytes(as_toml(document))
    return "run", "c.toml", "--out", "out", "--no-ledger", "--backend", "serial"


def _mutated_table(data: bytes, rng: Random) -> bytes:
    """Change cells of a CSV file, or its bytes."""
    if rng.random() < 0.3:
        return mutated_bytes(data, rng)
    rows = [line.split(",") for line in data.decode().splitlines()]
    for _ in range(rng.choice((1, 2, 5))):
        row = rng.choice(rows)
        how = rng.randrange(6)
        if how == 0:
            row.pop()
        elif how == 1:
            row.append("1")
        else:
            cells = (
                "",
                "nan",
                "inf",
                "-inf",
                "1e400",
                "1e38",
                "-0",
                "1_000",
                "٣",
                '"',
                '"a\nb"',
                LONG,
                "?",
                " 1",
                "0x1",
            )
            row[rng.randrange(len(row))] = rng.choice(cells)
    return "\n".join(map(",".join, rows)).encode()


@_kind
def task_code(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    how, source = rng.randrange(5), TASK_CODE
    if how == 0:
        source = rng.choice(("", source)) + "\n" + rng.choice(BAD_IMPORTS)
    elif how == 1:
        source += f"\n\ndef model():\n    return {rng.choice(MODELS)}\n"
    elif how == 2:
        source += f"\n\ndef data():\n    return {rng.choice(DATA)}\n"
    elif how == 3:
        lines = [line for line in rng.choice(BAD_IMPORTS).splitlines() if len(line) < 1000] or ["pass"]
        name = rng.choice(("model", "data"))
        source += f"\n\ndef {name}():\n" + "".join(f"    {line}\n" for line in lines)
    content = source.encode() if how < 4 else mutated_bytes(source.encode(), rng)
    (folder / "task.py").write_bytes(content)
    document = {key: value for key, value in SMALL.items() if key != "model"} | {
        "code": "task.py",
        "data": {"partition": {"method": "iid@1", "params": {}}},
    }
    (folder / "c.toml").write_bytes(as_toml(document))
    return "run", "c.toml", "--out", "out", "--no-ledger", "--backend", rng.choice(("serial", "batched"))


@_kind
def run_folder(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    """What has been run: read by all that read run folders."""
    name = rng.choice(("ledger", "fleet", "plain"))
    _copied(bench, folder, name)
    run = folder / "run"
    for _ in range(rng.choice((1, 1, 2))):
        _mutate_one(run, rng)
    (folder / "c.toml").write_bytes((bench.runs[name] / "config.toml").read_bytes())
    resume = ["run", "c.toml", "--resume", "run", "--backend", "serial"]
    resume += ["--no-ledger"] if name == "plain" else ["--chain", rng.choice(("embedded", "auto"))]
    return rng.choice(
        (
            resume,
            ["audit", "run"],
            ["audit", "run", "--jobs", "1", "--format", "json"],
            ["history", "run"],
            ["history", "run", "--participants", "--format", "csv"],
            ["devices", "run", *rng.choice(([], ["--rounds"]))],
            ["compare", "run", "run", "--out", "page.html"],
            ["compare", "run", "--format", "json"],
        )
    )


@_kind
def exported_ledger(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    """An export that has been changed and sealed again."""
    _copied(bench, folder, rng.choice(("ledger", "fleet")))
    mutate_lines(folder / "run" / LEDGER_FILE, rng, _sealed)
    return rng.choice((["audit", "run"], ["audit", "run", "--jobs", "1"], ["history", "run"]))


@_kind
def stored_content(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    _copied(bench, folder, rng.choice(("ledger", "fleet")))
    files = sorted(path for path in (folder / "run" / "store").rglob("*") if path.is_file())
    mutate_file(rng.choice(files), rng)
    return "audit", "run", "--jobs", rng.choice((1, 2))


@_kind
def resumed(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    """A run that goes on from what a stranger left in its folder."""
    name = rng.choice(("ledger", "fleet", "plain"))
    _copied(bench, folder, name)
    run = folder / "run"
    (folder / "c.toml").write_bytes((run / "config.toml").read_bytes())
    for each in ("rates.csv", "online.csv"):
        (folder / each).write_bytes((bench.runs["fleet"].parent / each).read_bytes())
    known = ("chain.jsonl", "chain.txt", "deployment.json", "journal", "checkpoint.safetensors")
    path = run / rng.choice([each for each in known if (run / each).exists()])
    if path.is_dir():
        path = rng.choice(sorted(each for each in path.rglob("*") if each.is_file()))
    _mutate_as_its_kind(path, rng)
    ledger = ["--no-ledger"] if name == "plain" else ["--chain", rng.choice(("embedded", "auto"))]
    return "run", "c.toml", "--resume", "run", "--backend", "serial", *ledger


@_kind
def sweep(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    (folder / "c.toml").write_bytes(as_toml(SMALL))
    key = rng.choice(SET_KEYS)
    values = ",".join(rng.choices(SET_VALUES, k=rng.choice((1, 2))))
    arguments: list[object] = ["sweep", "c.toml", "--out", "out", "--jobs", "1", "--set", f"{key}={values}"]
    if rng.random() < 0.5:
        arguments += [f"--seeds={rng.choice(SEED_TEXTS)}"]
    return arguments


@_kind
def key_file(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    (folder / "key.json").write_bytes(bench.key)
    (folder / "password").write_bytes(rng.choice((b"password", b"password\n", b"", b"\xff", b"wrong", b"\0")))
    if rng.random() < 0.8:
        (folder / "password").write_bytes(b"password\n")
    if rng.random() < 0.8:
        mutate_json_file(folder / "key.json", rng)
    else:
        mutate_file(folder / "key.json", rng)
    at = ["--rpc", bench.rpc, "--deployment", bench.deployment]
    return "withdraw", *at, "--keystore", "key.json", "--password-file", "password"


@_kind
def deployment(bench: Bench, folder: Path, rng: Random) -> Sequence[object]:
    shutil.copy(bench.deployment, folder / "deployment.json")
    if rng.random() < 0.8:
        mutate_json_file(folder / "deployment.json", rng)
    else:
        mutate_file(folder / "deployment.json", rng)
    at = ["--rpc", bench.rpc, "--deployment", "deployment.json"]
    return rng.choice((["status", *at], ["history", *at], ["audit", *at], ["verifier", "status", *at]))


def _copied(bench: Bench, folder: Path, name: str) -> None:
    shutil.copytree(bench.runs[name], folder / "run", ignore=shutil.ignore_patterns("report.html"))


def _mutate_one(run: Path, rng: Random) -> None:
    """Change one of a run's files, small ones as often as the many of its store."""
    top = sorted(path for path in run.iterdir() if path.name not in ("partition.html", "config.toml"))
    path = rng.choice(top)
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file())
        if not files:
            return
        path = rng.choice(files)
    _mutate_as_its_kind(path, rng)


def _mutate_as_its_kind(path: Path, rng: Random) -> None:
    if rng.random() < 0.2 or path.is_dir() or path.is_symlink():
        if path.is_file() and not path.is_symlink():
            mutate_file(path, rng)
    elif path.name == LEDGER_FILE:
        mutate_lines(path, rng, _sealed)
    elif path.suffix == ".jsonl":
        mutate_lines(path, rng)
    elif path.suffix == ".json":
        mutate_json_file(path, rng)
    elif path.name == CHECKPOINT_FILE:
        path.write_bytes(_mutated_checkpoint(path.read_bytes(), rng))
    else:
        path.write_bytes(mutated_bytes(path.read_bytes(), rng))


def _mutated_checkpoint(data: bytes, rng: Random) -> bytes:
    """Change what a checkpoint says, or one of its vectors."""
    named: dict[str, Any] = {name: np.array(values) for name, values in tensors.decode(data).items()}
    name = rng.choice(sorted(named))
    if name == "document":
        said = as_json(mutated(json.loads(named[name].tobytes()), rng))
        named[name] = np.frombuffer(said, np.uint8)
    else:
        how, values = rng.randrange(4), named[name]
        if how == 0:
            named[name] = values.reshape(-1)[: values.size // 2]
        elif how == 1:
            del named[name]
        elif how == 2:
            named[name] = values.astype(rng.choice((np.uint8, np.int64)))
        elif values.size:
            values.reshape(-1)[rng.randrange(values.size)] = 127
    return tensors.encode(named)


def _sealed(lines: list[bytes]) -> list[bytes]:
    digest = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    return [*lines[:-1], as_json({"sha256": digest}).replace(b" ", b"") + b"\n"]


# -- trying ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What a mutant did that it should not."""

    kind: str
    number: int
    command: str
    fault: str

    def __str__(self) -> str:
        return f"{self.kind} {self.number}: {self.command[:300]}\n{self.fault}\n"


def try_mutant(bench: Bench, kind: str, number: int, seconds: float = 30.0) -> tuple[Finding | None, Ended]:
    """Try one mutant; return what it did wrong, if anything, and how it ended."""
    with tempfile.TemporaryDirectory(prefix="fedledger-hostile-") as name:
        outer = Path(name)
        folder = outer / "outer" / "inner" / "work"
        folder.mkdir(parents=True)
        arguments = KINDS[kind](bench, folder, Random(f"{kind} {number}"))
        ended = bench.programs(arguments, folder, seconds)
        stray = [
            path for path in outer.rglob("*") if folder not in (path, *path.parents) and path not in folder.parents
        ]
        fault = judged(ended, stray)
        command = " ".join(map(str, arguments))
        return (Finding(kind, number, command, fault) if fault else None), ended


def judged(ended: Ended, stray: Sequence[Path]) -> str:
    """Return what is wrong with how a command ended; nothing if all is well."""
    told = ended.err[-2500:]
    if stray:
        return f"it wrote {[*map(str, stray)]}"
    if ended.code is None:
        return f"it was still at work after {ended.seconds:.0f} s: {told[-300:]}"
    if DEBUGGING in ended.err:
        return ""
    if "Traceback (most recent call last)" in ended.err + ended.out:
        return told
    if ended.code not in set(ExitCode):
        return f"it ended with {ended.code}: {told}"
    explained = "Error" in ended.err or "Failed:" in ended.err or ended.code in (ExitCode.OK, ExitCode.NOT_REPRODUCED)
    return "" if explained else f"it ended with {ended.code} and did not say why: {told}"


def prepare(folder: Path, programs: Programs, rpc: str) -> Bench:
    """Make what is mutated: three runs, a ledger on a chain, and a key."""
    (folder / "rates.csv").write_bytes(RATES)
    (folder / "online.csv").write_bytes(ONLINE)
    runs = {}
    for name, document, how in (
        ("ledger", SMALL, ["--chain", "embedded"]),
        ("fleet", FLEET, ["--chain", "embedded"]),
        ("plain", SMALL, ["--no-ledger"]),
    ):
        (folder / f"{name}.toml").write_bytes(as_toml(document))
        ended = programs(["run", f"{name}.toml", "--out", name, "--backend", "serial", *how], folder)
        assert ended.code == 0, ended.err
        runs[name] = next((folder / name).iterdir()).rename(folder / f"{name}-run")
        shutil.copy(folder / f"{name}.toml", runs[name] / "config.toml")
    deployment = folder / "deployment.json"
    for command in (
        ["deploy", "--rpc", rpc, "--experiment-seed", "0", "--output", deployment],
        ["task", "post", "ledger.toml", "--rpc", rpc, "--deployment", deployment],
        ["keys", "new", folder / "key.json"],
    ):
        ended = programs(command, folder)
        assert ended.code == 0, ended.err
    return Bench(runs, programs, rpc, deployment, (folder / "key.json").read_bytes())


def main() -> None:
    """Try mutants of a kind, or of all kinds, and tell what they do."""
    from fedledger.contracts.chain.development import running_chain

    names = [*KINDS] if sys.argv[1] == "all" else sys.argv[1].split(",")
    first, _, last = sys.argv[2].rpartition("..")
    root = Path(__file__).parents[2]
    os.environ["PATH"] += f":{root / 'node_modules' / '.bin'}"
    with tempfile.TemporaryDirectory() as name, running_chain("anvil") as process, Programs() as programs:
        bench = prepare(Path(name), programs, process.url)
        for kind in names:
            codes: dict[int | None, int] = {}
            spent = 0.0
            for number in range(int(first or 0), int(last)):
                finding, ended = try_mutant(bench, kind, number)
                codes[ended.code] = codes.get(ended.code, 0) + 1
                spent += ended.seconds
                if finding:
                    print(finding, flush=True)
            print(f"== {kind}: exit codes {codes}, {spent:.1f} s", flush=True)


if __name__ == "__main__":
    main()
