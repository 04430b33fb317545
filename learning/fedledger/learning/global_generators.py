"""The generators that a process has one of: torch's, NumPy's and Python's, from which a model may draw."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch


class GeneratorStates(NamedTuple):
    """What the global generators were."""

    torch: torch.Tensor
    numpy: dict[str, Any] | tuple[Any, ...]
    python: tuple[Any, ...]

    @classmethod
    def now(cls) -> GeneratorStates:
        """Return the states that they have."""
        return cls(torch.get_rng_state(), np.random.get_state(), random.getstate())

    def restore(self) -> None:
        """Put them back."""
        torch.set_rng_state(self.torch)
        np.random.set_state(self.numpy)
        random.setstate(self.python)


def seed_generators(seed: int) -> None:
    """Seed NumPy's and Python's global generators from a number of 63 bits, from which torch's is seeded as it is."""
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
