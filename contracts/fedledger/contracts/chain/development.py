"""Development chains: find and start Anvil or Ganache, and stop them with the program that started them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedledger.protocol.errors import ChainError

ChainKind = Literal["anvil", "ganache"]
LOOPBACK = "127.0.0.1"
START_TIMEOUT = 30.0
KEPT_STATES = 64


@dataclass(frozen=True)
class ChainProcess:
    """A development chain that this program started."""

    kind: ChainKind
    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """Stop the chain and wait until it is gone."""
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def find_program(kind: ChainKind) -> str | None:
    """Return the path of a chain's program: on PATH, else in a ``node_modules`` here or above, else None."""
    found = shutil.which(kind)
    if found is not None:
        return found
    here = Path.cwd()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        candidate = folder / "node_modules" / ".bin" / kind
        if candidate.exists() and shutil.which("node") is not None:
            return str(candidate)
    return None


def start_chain(
    kind: ChainKind,
    port: int = 0,
    state: Path | None = None,
    detach: bool = False,
    block_time: int = 0,
    host: str = LOOPBACK,
) -> ChainProcess:
    """Start a development chain and wait until it answers.

    Parameters
    ----------
    kind
        ``"anvil"`` or ``"ganache"``.
    port
        TCP port; 0 picks a free one.
    state
        File (Anvil) or folder (Ganache) in which the chain keeps its state between starts.
    detach
        Leave the chain running when this program ends.
    block_time
        Seconds between blocks that are made whether there are transactions or not; 0: only transactions make blocks.
    host
        Address on which it listens; anybody who reaches it can do with the chain what they like.

    Raises
    ------
    ChainError
        If the program is not there or does not answer in time.
    """
    program = find_program(kind)
    if program is None:
        package = "@foundry-rs/anvil" if kind == "anvil" else "ganache"
        raise ChainError(
            f"{kind} was found neither on PATH nor in node_modules.",
            f"Install it with `npm install {package}`, or use --chain embedded.",
        )
    port = port or free_port()
    arguments = [program, "--port", str(port), "--host", host]
    if kind == "anvil":
        # Left alone, Anvil writes the whole state of every block to the home folder: gigabytes for 1,000 participants.
        arguments += ["--silent", "--balance", "1000000", "--prune-history", str(KEPT_STATES)]
        arguments += ["--state", str(state)] if state is not None else []
        # Transactions do not wait for the next block.
        arguments += ["--block-time", str(block_time), "--mixed-mining"] if block_time else []
    else:
        arguments += ["--logging.quiet", "--wallet.defaultBalance", "1000000", "--chain.hardfork", "shanghai"]
        arguments += ["--wallet.deterministic", "--chain.chainId", "1337"]
        arguments += ["--database.dbPath", str(state)] if state is not None else []
        arguments += ["--miner.blockTime", str(block_time)] if block_time else []
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "NO_COLOR": "1"},
        start_new_session=detach,
    )
    url = f"http://{host}:{port}"
    deadline = time.monotonic() + START_TIMEOUT
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise ChainError(
                f"{kind} did not start at {url}.",
                "Is the port taken, or the address none of this machine's? Try another with --port or --host.",
            )
        time.sleep(0.05)
    return ChainProcess(kind, url, process)


@contextlib.contextmanager
def running_chain(kind: ChainKind, state: Path | None = None) -> Iterator[ChainProcess]:
    """Run a development chain for the length of a ``with`` block."""
    chain = start_chain(kind, state=state)
    try:
        yield chain
    finally:
        chain.stop()


def free_port() -> int:
    """Return a TCP port that is free on the loopback address."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


def _answers(url: str) -> bool:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=2) as response:
            return "result" in json.load(response)
    except (OSError, ValueError):
        return False
