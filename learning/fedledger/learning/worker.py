"""What a process is told that computes for another one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

import torch

MALLOC = ((-1, 1 << 30), (-2, 64 << 20), (-3, 32 << 20))
"""glibc's trim threshold, top pad and mmap threshold: else large activations go back to the system at every step."""
DEATH_SIGNAL = 1
"""Linux's PR_SET_PDEATHSIG."""


def become_worker(parent: int) -> None:
    """Compute on one thread, end with the parent, given by its process id, and keep memory that was used once."""
    torch.set_num_threads(1)
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    libc.prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    if hasattr(libc, "mallopt"):
        for option, value in MALLOC:
            libc.mallopt(option, value)
