"""Random streams that depend on the spec, a purpose, the round and an address, and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Stream:
    """Uniform integers from SHA-256 in counter mode, the same in every version of every library.

    Parameters
    ----------
    seed
        32 bytes; see :func:`derive_seed`.
    """

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._counter = 0
        self._buffer = b""

    def bytes(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        while len(self._buffer) < count:
            self._buffer += hashlib.sha256(self._seed + self._counter.to_bytes(8, "big")).digest()
            self._counter += 1
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def below(self, bound: int) -> int:
        """Return an integer uniform over ``0 … bound − 1`` (rejection sampling, so without bias)."""
        size = (bound.bit_length() + 7) // 8 + 1
        values = 1 << 8 * size
        while True:
            draw = int.from_bytes(self.bytes(size))
            if draw < values - values % bound:
                return draw % bound

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """Return ``count`` distinct items, uniform over subsets (partial Fisher-Yates shuffle)."""
        # Where an item is that was swapped away; there may be far more items than are drawn.
        moved: dict[int, int] = {}
        drawn = []
        for position in range(count):
            other = position + self.below(len(items) - position)
            drawn.append(items[moved.get(other, other)])
            moved[other] = moved.get(position, position)
        return drawn


def derive_seed(spec_digest: bytes, purpose: str, round_index: int = 0, address: str = "") -> bytes:
    """Return the seed of the stream for a purpose, a round and an address of the task with this spec."""
    seed = _begun(spec_digest, purpose, round_index).copy()
    seed.update(_named(address))
    return seed.digest()


@lru_cache(maxsize=64)
def _begun(spec_digest: bytes, purpose: str, round_index: int) -> hashlib._Hash:
    parts = b"fedledger/1", spec_digest, purpose.encode(), round_index.to_bytes(8, "big")
    return hashlib.sha256(b"".join(map(_prefixed, parts)))


@lru_cache(maxsize=4096)
def _named(address: str) -> bytes:
    return _prefixed(address.lower().encode())


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def stream(spec_digest: bytes, purpose: str, round_index: int = 0, address: str = "") -> Stream:
    """Return the exact-layer stream: what it draws is replayed by audits."""
    return Stream(derive_seed(spec_digest, purpose, round_index, address))


def generator(spec_digest: bytes, purpose: str, round_index: int = 0, address: str = "") -> np.random.Generator:
    """Return a NumPy generator for what nobody replays: shuffling and noise in local training."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(derive_seed(spec_digest, purpose, round_index, address))))


class Restartable:
    """A NumPy generator that goes to the start of any stream, in a tenth of the time that a new one takes."""

    def __init__(self) -> None:
        self._bits = np.random.PCG64(0)
        self._generator = np.random.Generator(self._bits)

    def restart(self, seed: bytes) -> np.random.Generator:
        """Return the one generator, which is at the start of the stream of a seed of 32 bytes now."""
        state, increment = int.from_bytes(seed[:16], "big"), int.from_bytes(seed[16:], "big") | 1
        self._bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": increment},
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self._generator
