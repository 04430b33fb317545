"""A real IPFS daemon for tests: js-ipfs, offline, on a port of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CLI = Path(__file__).parents[2] / "node_modules" / "ipfs" / "src" / "cli.js"
PRELOAD = Path(__file__).with_name("ipfs_preload.cjs")
CONFIG = {
    "Bootstrap": [],
    "Discovery": {"MDNS": {"Enabled": False}, "webRTCStar": {"Enabled": False}},
    "Swarm": {"DisableNatPortMap": True},
    "Routing": {"Type": "none"},
}


@contextmanager
def ipfs_daemon(
    folder: Path, patience: float = 120.0, host: str = "127.0.0.1", enter: Sequence[str] = ()
) -> Iterator[str]:
    """Run a daemon with its repository in ``folder`` and yield the multiaddr of its RPC.

    It listens at ``host``; ``enter`` are words before its command that make it run on that machine.

    Raises
    ------
    RuntimeError
        If it ends, or is not ready after ``patience`` seconds.
    """
    config, log = folder / "ipfs-config.json", folder / "ipfs.log"
    listening = dict.fromkeys(("API", "Gateway", "RPC"), f"/ip4/{host}/tcp/0")
    config.write_text(json.dumps(CONFIG | {"Addresses": {"Swarm": [], "Delegates": [], **listening}}))
    command = [*enter, "node", "--require", str(PRELOAD), str(CLI), "daemon", "--offline", "--enable-preload=false"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--init-config={config}"],
            env=os.environ | {"IPFS_PATH": str(folder / "ipfs"), "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _address(process, log, patience)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path, patience: float) -> str:
    deadline = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < deadline:
        text = log.read_text()
        found = re.search(r"HTTP API listening on (\S+)", text)
        if found and "Daemon is ready" in text:
            return found[1]
        time.sleep(0.1)
    raise RuntimeError(f"The IPFS daemon did not start:\n{log.read_text()}")
