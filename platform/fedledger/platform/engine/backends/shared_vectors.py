"""Vectors that the processes of a pool share."""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.records.model import ModelFile

MAX_BASES = 98
"""Base models that a round may refer to: its own, 64 before it, and up to 32 more that an attacker looks at."""
MAX_SERVER = 7
"""Vectors that an aggregator may publish."""
MAX_LIMBS = 2
ALIGNMENT = 64


class SharedMemory:
    """Zeros that a process shares with those it starts; nothing is left of it when they have ended, however they did.

    Parameters
    ----------
    size
        Bytes. Pages that nobody writes to take no memory.
    """

    def __init__(self, size: int, handle: int | None = None) -> None:
        self.size = size
        self._handle = _anonymous_file() if handle is None else handle
        if handle is None:
            os.ftruncate(self._handle, size)
        self.buffer = mmap.mmap(self._handle, size)

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (self.size, reduction.DupFd(self._handle))


def _attach(size: int, handle: Any) -> SharedMemory:
    return SharedMemory(size, handle.detach())


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fedledger")
    handle, name = tempfile.mkstemp()
    Path(name).unlink()
    return handle


@dataclass(frozen=True)
class SharedVectors:
    """What all processes see: a round's base models and published vectors, and the limbs of each worker's sum.

    Base models are float32[d + s] each, limbs int64[k, d]; a published vector has at most ``longest`` coordinates.
    """

    memory: SharedMemory
    workers: int
    dimension: int
    size: int
    longest: int

    @classmethod
    def make(cls, workers: int, initial: ModelFile, longest: int) -> SharedVectors:
        dimension, size = initial.dimension, len(initial.vector)
        floats = MAX_BASES * _stride(4 * size) + MAX_SERVER * _stride(4 * longest)
        memory = SharedMemory(floats + workers * MAX_LIMBS * _stride(8 * dimension))
        return cls(memory, workers, dimension, size, longest)

    @property
    def bases(self) -> list[NDArray[np.float32]]:
        return self._floats(0, MAX_BASES, self.size)

    @property
    def server(self) -> list[NDArray[np.float32]]:
        return self._floats(MAX_BASES * _stride(4 * self.size), MAX_SERVER, self.longest)

    def _floats(self, start: int, count: int, length: int) -> list[NDArray[np.float32]]:
        starts = (start + place * _stride(4 * length) for place in range(count))
        return [np.frombuffer(self.memory.buffer, np.float32, length, each) for each in starts]

    def limbs(self, place: int) -> NDArray[np.int64]:
        stride = _stride(8 * self.dimension)
        floats = MAX_BASES * _stride(4 * self.size) + MAX_SERVER * _stride(4 * self.longest)
        start = floats + place * MAX_LIMBS * stride
        flat = np.frombuffer(self.memory.buffer, np.int64, MAX_LIMBS * stride // 8, start)
        return flat.reshape(MAX_LIMBS, stride // 8)[:, : self.dimension]


def _stride(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
