"""A consortium of data owners: separate programs, each in a folder of its own with its own table, on one real chain."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from eth_utils.address import to_checksum_address
from sklearn.datasets import load_breast_cancer

from fedledger.contracts.chain.development import running_chain
from fedledger.platform.experiment.key_store import new_key
from fedledger.protocol.records.data_schema import TableSchema, schema_of
from support.ipfs_daemon import ipfs_daemon
from support.isolation import Network, Walls, network

CLI = [sys.executable, "-m", "fedledger.platform.cli.app"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
LABEL = "malignant"
FEW_ROWS = 90
"""Rows of each table, so that training takes no time."""
NODE = '[data]\ntable = "own.csv"\n'
HOSPITALS = 4
KEY = ("--keystore", "key.json", "--password-file", "password")


def write_tables(folders: Sequence[Path]) -> None:
    """Write one part of a real table into each folder, sorted by size of the tumours so that no two are alike."""
    data = load_breast_cancer()
    order = np.argsort(data.data[:, 0] + np.random.default_rng(0).normal(0, 9, len(data.data)))
    header = [*(name.replace(" ", "_") for name in data.feature_names), LABEL]
    for folder, places in zip(folders, np.array_split(order, len(folders)), strict=True):
        chosen = np.random.default_rng(1).permutation(places)[:FEW_ROWS]
        rows = ([*map(repr, map(float, data.data[place])), 1 - int(data.target[place])] for place in chosen)
        _write_table(folder, header, rows)


def write_hospitals(folders: Sequence[Path], source: Path) -> None:
    """Write the tables of four hospitals into all folders but the first, which gets the first half of one of them."""
    tables = []
    for name in ("hungarian", "va", "switzerland", "cleveland"):
        with (source / f"processed.{name}.data").open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, skipinitialspace=True)
        # 0 is no disease, 1 to 4 are grades of it.
        tables.append([[*row[:-1], str(int(float(row[-1]) > 0))] for row in rows])
    cleveland = tables.pop()
    half = len(cleveland) // 2
    for folder, table in zip(folders, (cleveland[:half], cleveland[half:], *tables), strict=True):
        _write_table(folder, [*header[:-1], LABEL], table)


def _write_table(folder: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with (folder / "own.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@dataclass
class Member:
    """Somebody with a folder, a program and a role.

    Parameters
    ----------
    folder
        All that it sees, besides chain and store.
    place
        The options that say where chain, ledger and store are.
    walls
        What keeps it from seeing more; without, nothing does.
    """

    folder: Path
    place: list[str]
    walls: Walls | None = None
    program: subprocess.Popen[bytes] | None = None
    command: list[str] = field(default_factory=list)

    def cli(self, *words: object, code: int = 0, where: bool = True) -> str:
        """Run a command to its end, and return what it prints on stdout, or on stderr if it is to fail."""
        done = self.run(*CLI, *map(str, words), *(self.place if where else ()))
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr + done.stdout

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run any command as the member would."""
        given: Any = {"cwd": self.folder, "env": self._environment, "capture_output": True, "text": True}
        return subprocess.run(self._behind(command), check=False, timeout=300, **given)

    def _behind(self, command: Sequence[str]) -> list[str]:
        return [*command] if self.walls is None else self.walls.around(self.folder, command)

    @property
    def _environment(self) -> dict[str, str]:
        if self.walls is None:
            return ENVIRONMENT
        return {"HOME": str(self.folder), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}

    def json(self, *words: object, code: int = 0) -> Any:
        """Run a command that prints a document."""
        return json.loads(self.cli(*words, "--format", "json", code=code))

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        """Start the member's program, or the same as before."""
        self.command = [*CLI, *map(str, words), *self.place] if words else self.command
        with (self.folder / "log").open("ab") as log, (self.folder / "told").open("ab") as told:
            self.program = subprocess.Popen(
                self._behind(self.command), cwd=self.folder, env=self._environment, stdout=told, stderr=log
            )
        return self.program

    @property
    def ledger(self) -> list[str]:
        """The options that say where chain and ledger are, for commands that need no store."""
        return self.place[:4]

    @property
    def address(self) -> str:
        """The address of the member's own key."""
        return str(to_checksum_address(json.loads((self.folder / "key.json").read_text())["address"]))

    def take_part(self, *account: object) -> None:
        """Start an owner's node, on its own table."""
        (self.folder / "node.toml").write_text(NODE)
        self.start("node", "start", "node.toml", *account, "--poll", 0.1)

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
    """The members on their chain.

    Parameters
    ----------
    url
        Of the chain.
    publisher, aggregator, owners, others
        The members; ``others`` by their names.
    folder
        The folder of all, with a folder for each.
    net
        The network between their machines, if they have one each.
    """

    url: str
    publisher: Member
    aggregator: Member
    owners: list[Member]
    folder: Path
    others: dict[str, Member] = field(default_factory=dict)
    net: Network | None = None

    @property
    def store(self) -> Path:
        """The folder of the store."""
        return self.folder / "store"

    @property
    def members(self) -> list[Member]:
        """All members."""
        return [self.publisher, self.aggregator, *self.others.values(), *self.owners]

    @property
    def schema(self) -> TableSchema:
        """The schema that the publisher drafted."""
        document = tomllib.loads((self.publisher.folder / "task.toml").read_text())
        schema = schema_of(document["data_schema"], "data_schema")
        assert isinstance(schema, TableSchema)
        return schema

    def draft(self, **changed: object) -> None:
        """Draft a task from the publisher's table, and edit it as a publisher would: ``changed`` has new values."""
        self.publisher.cli("task", "draft", "--data", "own.csv", "--label", LABEL, "--hold-out", 0.5, where=False)
        path = self.publisher.folder / "task.toml"
        text = path.read_text()
        for name, value in changed.items():
            line = f"{name} = {value}"
            text, count = re.subn(rf"(?m)^{name} = .*$", line, text)
            if not count:
                text = text.replace("[ledger]", f"[ledger]\n{line}")
        path.write_text(text)


@contextmanager
def consortium(folder: Path, owners: int, apart: bool = False) -> Iterator[Consortium]:
    """Make folders for a publisher, an aggregator and some owners, with a chain and a deployed ledger.

    Their accounts are the experiment's, of seed 0. What programs still run at the end are killed.

    Parameters
    ----------
    folder
        Where to make the folders.
    owners
        How many there are.
    apart
        Whether each sees its own folder and the store alone; else nothing keeps them from seeing more.
    """
    names = ["publisher", "aggregator", *(f"owner{number}" for number in range(owners))]
    for name in [*names, "store"]:
        (folder / name).mkdir()
    write_tables([folder / name for name in names if name != "aggregator"])
    walls = Walls(folder, [folder / "store"]) if apart else None
    with running_chain("anvil") as chain:
        place = ["--rpc", chain.url, "--deployment", "deployment.json", "--store-dir", str(folder / "store")]
        members = [Member(folder / name, place, walls) for name in names]
        _deploy(members, "--rpc", chain.url, "--experiment-seed", 0)
        with _ending(members):
            yield Consortium(chain.url, members[0], members[1], members[2:], folder)


@contextmanager
def machines(folder: Path, owners: int, others: Sequence[str], delay: float) -> Iterator[Consortium]:
    """Give each member a machine of its own, with an address, a folder and a key; chain and IPFS daemon have one each.

    Parameters
    ----------
    folder
        Where to make the folders.
    owners
        How many owners there are; four have the tables of four hospitals if FEDLEDGER_DATA names their folder.
    others
        Names of members besides publisher, aggregator and owners.
    delay
        Seconds that a packet takes.
    """
    names = ["publisher", "aggregator", *others, *(f"owner{number}" for number in range(owners))]
    for name in [*names, "store", "chain", "wire"]:
        (folder / name).mkdir()
    for name in names:
        (folder / name / "password").write_text(f"the password of {name}")
        new_key(folder / name / "key.json", folder / name / "password")
    with_tables = [folder / name for name in names if name == "publisher" or name.startswith("owner")]
    hospitals = Path(os.environ.get("FEDLEDGER_DATA", "examples/data")) / "heart_disease"
    if owners == HOSPITALS and hospitals.exists():
        write_hospitals(with_tables, hospitals)
    else:
        write_tables(with_tables)
    with ExitStack() as stack:
        net = stack.enter_context(network([*names, "store", "chain"], delay, folder / "wire"))
        daemon = ipfs_daemon(folder / "store", host=net.addresses["store"], enter=net.enter("store"))
        url = stack.enter_context(_chain(folder / "chain", net))
        place = ["--rpc", url, "--deployment", "deployment.json", "--store", stack.enter_context(daemon)]
        walls = Walls(folder, network=net)
        members = {name: Member(folder / name, place, walls) for name in names}
        stack.enter_context(_ending([*members.values()]))
        _deploy([*members.values()], "--rpc", url, *KEY)
        first, second, *rest = members.values()
        yield Consortium(url, first, second, rest[len(others) :], folder, dict(zip(others, rest, strict=False)), net)


@contextmanager
def _chain(folder: Path, net: Network) -> Iterator[str]:
    """Run a chain that makes a block every second on a machine of a network, and give its URL."""
    address = net.addresses["chain"]
    with (folder / "log").open("wb") as log:
        command = [*net.enter("chain"), *CLI, "chain", "up", "anvil", "--host", address]
        program = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)
    try:
        while f"listens at http://{address}" not in (folder / "log").read_text():
            assert program.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"http://{address}:8545"
    finally:
        program.terminate()
        program.wait(timeout=30)


def _deploy(members: Sequence[Member], *words: object) -> None:
    """Have the publisher deploy a ledger, and give its record to all."""
    publisher, *rest = members
    publisher.cli("deploy", *words, where=False)
    for member in rest:
        shutil.copy(publisher.folder / "deployment.json", member.folder)


@contextmanager
def _ending(members: Sequence[Member]) -> Iterator[None]:
    """Kill what programs still run at the end."""
    try:
        yield
    finally:
        for member in members:
            if member.program is not None and member.program.poll() is None:
                member.kill()
