"""What this machine has, and how a process that works on large vectors makes use of it."""

from __future__ import annotations

import ctypes
import os
import sys

import psutil

MALLOC = ((-1, 1 << 30), (-2, 64 << 20), (-3, 32 << 20))
"""glibc's trim threshold, top pad and mmap threshold."""


def processors() -> int:
    """Return how many processors this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def most_memory() -> int:
    """Return the bytes of memory that programs of one kind may take on this machine: three quarters of all."""
    return int(psutil.virtual_memory().total) * 3 // 4


def open_files() -> int:
    """Return how many files and connections this program may have open at once."""
    try:
        import resource
    except ImportError:
        # Windows has no such limit, and asks less than this of its sockets.
        return 8192
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 65_536 if most == resource.RLIM_INFINITY else most


def keep_freed_memory() -> None:
    """Keep what is freed for what is needed next.

    Otherwise vectors of some hundred kilobytes go back to the system whenever they are freed, and each of their pages
    is made anew: on rounds of ten updates of 60,000 parameters that takes a third of the time of judging. Nothing
    happens where the C library is not glibc.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in MALLOC:
            libc.mallopt(option, value)
