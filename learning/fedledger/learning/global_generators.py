"""The generators that a process has one of: torch's, NumPy's and Python's, from which a model may draw."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class GeneratorStates:
    """What the global generators are now, until they are put back.

    NumPy's and Python's have large states, which take as long to copy as a tiny model takes to train. So these are
    looked at only once they are about to be seeded.
    """

    _kept: list[GeneratorStates] = []  # noqa: RUF012  (of the process, as the generators are)

    def __init__(self) -> None:
        self._torch = torch.get_rng_state()
        self._others: tuple[dict[str, Any] | tuple[Any, ...], tuple[Any, ...]] | None = None
        self._kept.append(self)

    def restore(self) -> None:
        """Put them back."""
        self._kept.remove(self)
        torch.set_rng_state(self._torch)
        if self._others is not None:
            numpy, python = self._others
            np.random.set_state(numpy)
            random.setstate(python)

    def _look(self) -> None:
        if self._others is None:
            self._others = np.random.get_state(), random.getstate()


def seed_generators(seed: int) -> None:
    """Seed NumPy's and Python's global generators from a number of 63 bits, from which torch's is seeded as it is."""
    for states in GeneratorStates._kept:
        states._look()
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python; they are as they were afterwards."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
