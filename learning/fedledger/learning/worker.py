"""What a process is told that computes for another one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

import torch

from fedledger.storage.machine import keep_freed_memory

DEATH_SIGNAL = 1
"""Linux's PR_SET_PDEATHSIG."""


def become_worker(parent: int) -> None:
    """Compute on one thread, end with the parent, given by its process id, and keep memory that was used once."""
    compute_alone()
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    libc.prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def compute_alone() -> None:
    """Compute on one thread, and keep memory that was used once."""
    torch.set_num_threads(1)
    keep_freed_memory()
