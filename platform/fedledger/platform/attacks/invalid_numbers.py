"""Numbers that no honest update holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.protocol.methods.parameters import Checked, OneOf, Real

NUMBERS = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "1e38": 1e38}


@ATTACKS.register("invalid_numbers@1")
@dataclass(frozen=True)
class InvalidNumbers(Checked):
    """Sends an honest update some of whose coordinates are NaN, infinite, or finite and beyond all bounds.

    One such number makes a mean of floating-point numbers useless, and one NaN also many an implementation of a robust
    rule. Here validation refuses the update before any rule sees it.

    Parameters
    ----------
    honest
        The participant's own trainer.
    number
        What it sends.
    share
        In which share of the coordinates, evenly spaced from the first; in one at least.
    """

    honest: LocalTrainer
    number: Annotated[str, OneOf(tuple(NUMBERS))] = "nan"
    share: Annotated[float, Real(0, 1)] = 0.0

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        trained = self.honest(context)
        delta = trained.delta.copy()
        count = max(1, int(self.share * len(delta)))
        delta[np.linspace(0, len(delta) - 1, count).astype(np.int64)] = NUMBERS[self.number]
        return replace(trained, delta=delta)
