"""Inputs that replayable arithmetic does not take as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.replayable.grids import ACTIVATION_LIMIT
from fedledger.learning.schemas.fit import Misfit

AT_ONCE = 1 << 20
"""Numbers that are looked at together."""


def cut_inputs(inputs: NDArray[Any]) -> list[Misfit]:
    """Return how many numbers of examples [n, ...] are cut, if any are; whole numbers are looked up instead."""
    if inputs.dtype.kind != "f":
        return []
    numbers = inputs.reshape(-1)
    parts = (numbers[start : start + AT_ONCE] for start in range(0, len(numbers), AT_ONCE))
    count = sum(int(np.count_nonzero(np.abs(part) > ACTIVATION_LIMIT)) for part in parts)
    if not count:
        return []
    problem = (
        f"{count:,} of the inputs' {len(numbers):,} numbers are beyond ±{ACTIVATION_LIMIT:.0f}, where replayable "
        "training and exact measurement cut them."
    )
    return [Misfit("", problem, "Scale the inputs, unless these are outliers.", is_serious=False)]
