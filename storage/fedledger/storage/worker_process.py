"""A process that computes for this one on what strangers wrote: it is kept from job to job, and may be ended any time.

It comes from a server of processes that has loaded the libraries and nothing else, so that it starts within
milliseconds, shares no connection with this program, and takes none of its threads along.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

from fedledger.protocol.errors import FedledgerError

DEATH_SIGNAL = 1
"""Linux's PR_SET_PDEATHSIG."""
KIB = 1024


class WorkerEndedError(FedledgerError):
    """A worker process that has ended although nobody asked it to."""


class WorkerProcess:
    """A process that is told what to compute through a pipe.

    Parameters
    ----------
    serve
        What it does with its end of the pipe; a function of a module.
    memory
        Bytes that it may take besides what it starts with. Beyond them the system refuses it memory, where it can.
    preload
        Modules that are loaded before the first process is made, for all of them.
    """

    def __init__(self, serve: Callable[[Connection], None], memory: int, preload: Sequence[str]) -> None:
        is_posix = sys.platform != "win32"
        context: Any = multiprocessing.get_context("forkserver" if is_posix else "spawn")
        if is_posix:
            context.set_forkserver_preload(list(preload))
        self._pipe, there = context.Pipe()
        self._process: BaseProcess = context.Process(target=_run, args=(serve, there, memory), daemon=True)
        self._process.start()
        there.close()
        self._watched = psutil.Process(self._process.pid)
        self._end = weakref.finalize(self, _kill, self._process)

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self._process.pid

    def send(self, content: Any) -> None:
        """Send something to the process.

        Raises
        ------
        WorkerEndedError
            If it has ended.
        """
        try:
            self._pipe.send(content)
        except OSError as error:
            raise self._ended() from error

    def receive(self, seconds: float) -> Any:
        """Return what the process sends next, or None if nothing comes within some seconds.

        Raises
        ------
        WorkerEndedError
            If it has ended.
        """
        try:
            return self._pipe.recv() if self._pipe.poll(seconds) else None
        except (OSError, EOFError) as error:
            raise self._ended() from error

    def memory(self) -> int:
        """Return the bytes of memory that the process holds; 0 once it has ended."""
        try:
            return int(self._watched.memory_info().rss)
        except psutil.Error:
            return 0

    def kill(self) -> None:
        """End the process at once; whoever waits for it is told so."""
        self._end()

    def _ended(self) -> WorkerEndedError:
        self._process.join(1.0)
        code = self._process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        return WorkerEndedError(f"The process ended {how}.", "Was it out of memory? Give it more.")


def _kill(process: BaseProcess) -> None:
    with contextlib.suppress(ProcessLookupError, ValueError):
        process.kill()


def _run(serve: Callable[[Connection], None], pipe: Connection, memory: int) -> None:
    """Be a worker: end with the program, leave signals from the keyboard to it, and take no more memory than given."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # Its parent is the server of processes, which ends with the program.
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
    limit_memory(memory)
    with contextlib.suppress(EOFError, OSError):
        serve(pipe)


def limit_memory(more: int) -> None:
    """Have the system refuse this process more memory of its own than some bytes besides what it has, where it can."""
    if sys.platform != "linux":
        return
    import resource

    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    own = int(fields["VmData"].split()[0]) * KIB
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = own + more
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
