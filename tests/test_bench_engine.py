"""The comparison of engines, with the real scripts; the peers need an environment of their own and are not started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fedledger.learning.data import Dataset, Parts
from fedledger.platform.bench import engine
from fedledger.platform.bench.engine import OURS, PEERS, Bench, Figures, Row
from fedledger.platform.cli import app
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.protocol.errors import ConfigError, ExitCode, FedledgerError
from fedledger.storage.process_memory import ProcessTree, measurable

SIZE = 40 * 2**20


@pytest.fixture
def scripts(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType]]:
    """The workloads, and this project's script."""
    monkeypatch.syspath_prepend(str(root / "benchmarks" / "engine"))
    import fedledger_engine
    import workloads

    yield workloads, fedledger_engine
    for name in ("fedledger_engine", "workloads"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("name", "parameters"), [("digits", 2_410), ("mlp", 199_210), ("cnn", 61_706)])
def test_ours_trains_what_the_floor_trains(
    scripts: tuple[ModuleType, ModuleType], name: str, parameters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    workloads, ours = scripts
    workload = workloads.load(name)
    experiment = ours.workload_experiment(workload, 7)
    assert len(experiment.initial.vector) == sum(p.numel() for p in workload.model().parameters()) == parameters
    # Our pooling is torch's in training.
    assert str(experiment.make_model()).replace("HalvingMaxPool2d", "MaxPool2d") == str(workload.model())
    assert len(experiment.parts) == workload.clients == 100
    for client in (0, 41, 99):
        part = workload.part(client)
        assert np.array_equal(experiment.parts[client].inputs, workload.inputs[part])
        assert np.array_equal(experiment.parts[client].targets, workload.labels[part])
        assert part.stop - part.start == (14 if name == "digits" else 600)
    solver = experiment.spec.solver
    assert solver.method == "sgd@1"
    assert solver.params == {"learning_rate": 0.1, "batch_size": 32, "local_epochs": 1}
    assert experiment.spec.selection.params == {"count": 10} and experiment.spec.rounds == 7
    assert workload.learning_rate == 0.1 and workload.batch == 32 and workloads.PER_ROUND == 10


def test_ours_asks_whom_the_floor_asks(scripts: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    workloads, ours = scripts
    workload = workloads.load("gru")
    sizes = np.diff([0, *workload.ends])
    assert workload.clients == 400 and sizes.min() >= 1 and workload.inputs.shape[1] == workloads.STRETCH
    assert np.array_equal(workload.inputs[:, 1:], workload.labels[:, :-1])
    record = MemoryRecord(ours.workload_experiment(workload, 3))
    ours.ask_floors_clients(record, workload)
    choices = workload.chosen()
    for index in (1, 2, 3):
        assert set(record.plan.round(index)[0]) == set(next(choices))


def test_speakers_are_read_from_the_text(
    scripts: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workloads, _ = scripts
    words = ["".join(chr(97 + (i * j) % 26) for j in range(90)) for i in range(1, 4)]
    text = "\n\n".join(f"{name}:\n{said}" for name, said in zip("ABA", words, strict=True))
    (tmp_path / "tiny_shakespeare").mkdir()
    (tmp_path / "tiny_shakespeare" / "input.txt").write_text(text)
    monkeypatch.setenv(workloads.DATA, str(tmp_path))
    monkeypatch.setattr(workloads, "SPEAKERS", 3)
    found = workloads.speeches()
    # A has said twice as much as B, and is halved.
    assert [len(each) for each in found] == [91, 91, 91] and f"{words[0]}\n" in found and f"{words[1]}\n" in found
    read, following, ends = workloads.stretches(found)
    assert ends == [2, 4, 6] and read.shape == following.shape == (6, 40)


def test_stretches_of_a_data_set_are_its_parts() -> None:
    dataset = Dataset.of(np.arange(6, dtype=np.float32)[:, None], [0, 1, 0, 1, 0, 1], classes=2)
    parts = Parts.stretches(dataset, [2, 2, 6])
    assert [part.inputs.ravel().tolist() for part in parts] == [[0, 1], [], [2, 3, 4, 5]]
    assert [parts.size(i) for i in range(3)] == [2, 0, 4]
    assert np.shares_memory(parts[2].inputs, dataset.inputs)
    for ends in ([3, 2, 6], [2, 5], [7], []):
        with pytest.raises(ConfigError):
            Parts.stretches(dataset, ends)


@pytest.mark.long
def test_engines_are_compared(call_json: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Floor and ours on digits, by the command, in JSON."""
    out = tmp_path / "figures.json"
    arguments = [*call_json, "--workloads", "digits", "--rounds", "7", "--repetitions", "2", "--out", str(out)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert document == json.loads(out.read_text())
    assert set(document) == {"warm_up_rounds", "rows", "ratios"}
    rows = {row["engine"]: row for row in document["rows"]}
    assert list(rows) == ["floor", "fedledger"]
    for row in rows.values():
        assert row["workload"] == "digits" and row["rounds"] == 7 and len(row["repetitions"]) == 2
        for figure in ("seconds_per_round", "mean_seconds_per_round", "first_round_seconds"):
            each = [repetition[figure] for repetition in row["repetitions"]]
            assert row[figure] == pytest.approx(sum(each) / 2) and min(each) > 0
        assert 50 < row["peak_pss_mb"] < 5_000
        assert row["seconds_per_round"] < row["first_round_seconds"]
    ratios = {(ratio["ratio"], ratio["figure"]): ratio for ratio in document["ratios"]}
    assert set(ratios) == {
        ("fedledger/floor", "seconds_per_round"),
        ("fedledger/floor", "mean_seconds_per_round"),
        ("fedledger", "first_round_seconds"),
        ("fedledger/floor", "peak_pss_mb"),
    }
    ours, floor = (rows[name]["repetitions"] for name in ("fedledger", "floor"))
    one = ratios["fedledger/floor", "seconds_per_round"]
    quotients = [a["seconds_per_round"] / b["seconds_per_round"] for a, b in zip(ours, floor, strict=True)]
    assert one["value"] == pytest.approx(sum(quotients) / 2)
    assert one["target"] == "≤ 1.1" and one["met"] is (one["value"] <= 1.1)
    assert ratios["fedledger/floor", "mean_seconds_per_round"]["met"] is None


@pytest.fixture
def call_json() -> list[str]:
    return [sys.executable, "-m", app.__name__, "bench", "engine", "--format", "json"]


def row(engine: str, seconds: list[float], first: float = 1.0, peak: float | None = 100.0) -> Row:
    figures = tuple(Figures(each, 2 * each, first) for each in seconds)
    return Row(engine, "digits", 0.0, 0.0, 0.0, peak, 9, "", figures)


def test_a_ratio_is_the_median_of_the_ratios_of_neighbours() -> None:
    # The second repetition met a slow machine; medians of each engine alone would give 0.02 / 0.001.
    rows = {
        "floor": row("floor", [0.001, 0.010, 0.001]),
        OURS: row(OURS, [0.002, 0.011, 0.001], first=5.0, peak=126.0),
        "flwr": row("flwr", [0.2, 0.2, 0.2]),
        "pfl": row("pfl", [0.002, 0.022, 0.002]),
    }
    got = {(r.ratio, r.figure): r for r in engine._ratios("digits", rows)}
    assert got["fedledger/floor", "seconds_per_round"].value == pytest.approx(1.1)
    assert got["flwr/fedledger", "seconds_per_round"].value == pytest.approx(100)
    assert got["pfl/fedledger", "seconds_per_round"].value == pytest.approx(2)
    assert got["pfl/fedledger", "seconds_per_round"].met and got["pfl/fedledger", "seconds_per_round"].target == "> 1"
    assert got["fedledger", "first_round_seconds"].met is False
    assert got["fedledger/floor", "peak_pss_mb"].value == pytest.approx(1.26)
    assert got["fedledger/floor", "peak_pss_mb"].met is False
    unknown = {name: replace(each, peak_pss_mb=None) for name, each in rows.items()}
    assert not [r for r in engine._ratios("digits", unknown) if r.figure == "peak_pss_mb"]
    # Nothing is wanted of Flower on cnn, but it is told.
    told = {(r.ratio, r.figure): r for r in engine._ratios("cnn", rows)}["flwr/fedledger", "seconds_per_round"]
    assert told.met is None and told.target == "" and told.value == pytest.approx(100)


def test_what_cannot_be_compared_is_refused_with_a_remedy(root: Path, tmp_path: Path) -> None:
    bench = Bench.find(tmp_path / "python")
    with pytest.raises(ConfigError, match=r"does not exist.*make bench.*--peer-python"):
        bench.compare(["flwr"], {"digits": 7}, 1)
    with pytest.raises(ConfigError, match=r"There are: flwr, pfl"):
        bench.compare(["fedjax"], {"digits": 7}, 1)
    with pytest.raises(ConfigError, match=r"There are: digits, mlp, cnn, gru"):
        bench.compare([], {"imagenet": 7}, 1)
    with pytest.raises(ConfigError, match="more than 5"):
        bench.compare([], {"digits": 5}, 1)
    with pytest.raises(ConfigError, match="at least 1"):
        bench.compare([], {"digits": 7}, 0)
    hollow = tmp_path / "hollow"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", hollow], check=True)
    with pytest.raises(ConfigError, match=r"lacks pfl, torch\..*make bench"):
        Bench.find(hollow / "bin" / "python").compare(["pfl"], {"digits": 7}, 1)
    for peer in PEERS:
        assert (root / "benchmarks" / "engine" / f"{peer}_engine.py").exists()


def test_the_command_says_what_is_missing(call_json: list[str], tmp_path: Path) -> None:
    arguments = [*call_json, "--peers", "flwr,pfl", "--peer-python", str(tmp_path / "python")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.CONFIG and "make bench" in done.stderr and not done.stdout


def test_an_engine_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "floor.py").write_text("raise SystemExit('out of torches')")
    with pytest.raises(FedledgerError, match=r"floor failed on digits \(exit code 1\): out of torches.*Run "):
        Bench(tmp_path, Path(sys.executable)).compare([], {"digits": 7}, 1)


FAMILY = f"""
import mmap, os, sys, time
pages = mmap.mmap(-1, {SIZE})
pages.write(b"x" * {SIZE})
if os.fork() == 0:
    if os.fork() == 0:
        private = bytearray(b"y" * {SIZE})
        print("ready", flush=True)
        time.sleep(60)
    # The grandchild's parent ends when it is told to.
    sys.stdin.readline()
    os._exit(0)
os.wait()
print("orphaned", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(not measurable(), reason="only Linux tells proportional set sizes")
def test_memory_of_a_tree_counts_shared_pages_once() -> None:
    process = subprocess.Popen([sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        tree = ProcessTree(process.pid)
        members = tree.members()
        assert len(members) == 3 and process.pid in members and os.getpid() not in members
        # One shared block and one private: not three of the first.
        assert 2 * SIZE < tree.pss() < 2 * SIZE + 60e6
        assert tree.peak(0.05) > 2 * SIZE
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "orphaned\n"
        assert len(tree.members()) == 2, "an orphan is still a member"
    finally:
        for pid in tree.members():
            os.kill(pid, 9)
        process.wait()
    assert ProcessTree(process.pid).members() == [] and tree.peak(5) == 0
