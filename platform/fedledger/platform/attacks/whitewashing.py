"""A new name as soon as the old one is worth little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.within import Within
from fedledger.protocol.methods.parameters import Real
from fedledger.protocol.records.reputation import PPM


@ATTACKS.register("whitewashing@1")
@dataclass(frozen=True)
class Whitewashing(Within):
    """Attacks in another way, and comes back under a new name when its reputation is low.

    A new name has a newcomer's reputation, and nothing is remembered of it (Friedman and Resnick 2001,
    https://doi.org/10.1111/j.1430-9134.2001.00173.x); what both names earn goes to the same person. Only runs without a
    ledger play it, and there a new name costs nothing. A ledger asks a stake of it, and takes newcomers only where
    enrolment is open.

    Parameters
    ----------
    below
        It leaves when its reputation has fallen below this, from 0 to 1; a newcomer has .5.
    """

    below: Annotated[float, Real(0, 1)] = 0.4

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        return self.other(context)

    def leaves(self, reputation: int) -> bool:
        """Return whether it takes a new name, given its reputation in ppm."""
        return reputation < self.below * PPM
