"""The command line, started many times: each command in a process of its own, with limits on time and memory.

A process that has imported everything forks one for each command, which takes milliseconds instead of seconds.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

RAISED = 97
"""Exit code of a command that ended with an exception."""
MEMORY = 4 * 2**30
"""Bytes that a command may have."""
FILES = 256 * 2**20
"""Bytes of the largest file that a command may write."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or None if it was still at work, and what it wrote."""

    code: int | None
    seconds: float
    out: str
    err: str


class Programs:
    """Starts commands, one after another."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "FEDLEDGER_PASSWORD": "password"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.programs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])},
            text=True,
        )

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def __call__(self, arguments: Sequence[object], folder: Path, seconds: float = 30.0) -> Ended:
        """Run a command in a folder."""
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"arguments": [*map(str, arguments)], "folder": str(folder), "seconds": seconds}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        told = [(folder / f".{name}").read_text("utf-8", "replace") for name in ("out", "err")]
        for name in ("out", "err"):
            (folder / f".{name}").unlink()
        return Ended(answer["code"], answer["took"], *told)


def serve() -> None:
    """Fork a process for each command that is asked for on standard input."""
    _import_all()
    for line in sys.stdin:
        request = json.loads(line)
        began, child = time.monotonic(), os.fork()
        if child == 0:
            _become(request)
        code = _awaited(child, request["seconds"])
        print(json.dumps({"code": code, "took": time.monotonic() - began}), flush=True)


def _awaited(child: int, seconds: float) -> int | None:
    """Return a process's exit code, minus its signal, or None if it had to be killed; its own processes end, too."""
    handle = os.pidfd_open(child)
    ready, _, _ = select.select([handle], [], [], seconds)
    os.close(handle)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if ready else None


def _become(request: dict[str, Any]) -> None:
    """Run a command and end."""
    code = RAISED
    try:
        os.setsid()
        os.chdir(request["folder"])
        for number, name in enumerate((os.devnull, ".out", ".err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILES, FILES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = _run(request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(arguments: list[str]) -> int:
    from fedledger.platform.cli import app

    sys.argv = ["fedledger", *arguments]
    try:
        app.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _import_all() -> None:
    import plotly.graph_objects  # noqa: F401
    import torch

    import fedledger.aggregator.driver
    import fedledger.contracts.chain.embedded
    import fedledger.ledger_tools.audit.audit
    import fedledger.node.participant
    import fedledger.platform.cli.app
    import fedledger.platform.runs.ledger_run
    import fedledger.platform.runs.plain_run
    import fedledger.platform.runs.sweep  # noqa: F401

    torch.set_num_threads(1)


if __name__ == "__main__":
    serve()
