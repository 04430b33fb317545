"""A consortium of data owners: separate programs, each in a folder of its own with its own table, on one real chain."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer

from fedledger.contracts.chain.development import running_chain

CLI = [sys.executable, "-m", "fedledger.platform.cli.app"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
LABEL = "malignant"
FEW_ROWS = 90
"""Rows of each table, so that training takes no time."""


def write_tables(folders: Sequence[Path]) -> None:
    """Write one part of a real table into each folder, sorted by size of the tumours so that no two are alike."""
    data = load_breast_cancer()
    order = np.argsort(data.data[:, 0] + np.random.default_rng(0).normal(0, 9, len(data.data)))
    header = [*(name.replace(" ", "_") for name in data.feature_names), LABEL]
    for folder, places in zip(folders, np.array_split(order, len(folders)), strict=True):
        with (folder / "own.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for place in np.random.default_rng(1).permutation(places)[:FEW_ROWS]:
                writer.writerow([*map(repr, map(float, data.data[place])), 1 - int(data.target[place])])


@dataclass
class Member:
    """Somebody with a folder, a program and a role.

    Parameters
    ----------
    folder
        All that it sees, besides chain and store.
    place
        The options that say where chain, ledger and store are.
    """

    folder: Path
    place: list[str]
    program: subprocess.Popen[bytes] | None = None
    command: list[str] = field(default_factory=list)

    def cli(self, *words: object, code: int = 0, where: bool = True) -> str:
        """Run a command to its end, and return what it prints on stdout, or on stderr if it is to fail."""
        command = [*CLI, *map(str, words), *(self.place if where else ())]
        given: Any = {"cwd": self.folder, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 300}
        done = subprocess.run(command, check=False, **given)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr + done.stdout

    def json(self, *words: object, code: int = 0) -> Any:
        """Run a command that prints a document."""
        return json.loads(self.cli(*words, "--format", "json", code=code))

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        """Start the member's program, or the same as before."""
        self.command = [*CLI, *map(str, words), *self.place] if words else self.command
        with (self.folder / "log").open("ab") as log, (self.folder / "told").open("ab") as told:
            self.program = subprocess.Popen(self.command, cwd=self.folder, env=ENVIRONMENT, stdout=told, stderr=log)
        return self.program

    def kill(self) -> None:
        """Kill the member's program, as a machine that loses its power does."""
        assert self.program is not None
        self.program.send_signal(signal.SIGKILL)
        self.program.wait()

    def ended(self, seconds: float = 120.0) -> str:
        """Wait until the program ends well, and return what it printed."""
        assert self.program is not None
        assert self.program.wait(timeout=seconds) == 0, (self.folder / "log").read_text()
        return (self.folder / "told").read_text()


@dataclass
class Consortium:
    """The members on their chain."""

    url: str
    publisher: Member
    aggregator: Member
    owners: list[Member]
    store: Path


@contextmanager
def consortium(folder: Path, owners: int) -> Iterator[Consortium]:
    """Make folders for a publisher, an aggregator and some owners, with a chain and a deployed ledger.

    What programs still run at the end are killed.
    """
    names = ["publisher", "aggregator", *(f"owner{number}" for number in range(owners))]
    for name in [*names, "store"]:
        (folder / name).mkdir()
    write_tables([folder / name for name in names if name != "aggregator"])
    with running_chain("anvil") as chain:
        at = ["--rpc", chain.url, "--deployment", str(folder / "deployment.json")]
        place = [*at, "--store-dir", str(folder / "store")]
        members = [Member(folder / name, place) for name in names]
        members[0].cli(
            *("deploy", "--rpc", chain.url, "--experiment-seed", 0, "--output", folder / "deployment.json"), where=False
        )
        try:
            yield Consortium(chain.url, members[0], members[1], members[2:], folder / "store")
        finally:
            for member in members:
                if member.program is not None and member.program.poll() is None:
                    member.kill()


def rows_elsewhere(folder: Path, owner: Path) -> list[Path]:
    """Return the files outside of an owner's folder that hold a row of its table, as text or as numbers."""
    with (owner / "own.csv").open(encoding="utf-8", newline="") as file:
        lines = file.read().splitlines()[1:]
    known = [line.encode() for line in lines]
    known += [",".join(line.split(",")[:6]).encode() for line in lines]
    for dtype in (np.float32, np.float64):
        known += [np.array(line.split(",")[:6], dtype).tobytes() for line in lines]
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_relative_to(owner):
            content = path.read_bytes()
            if any(row in content for row in known):
                found.append(path)
    return found
