"""More work claimed than was done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.within import Within
from fedledger.protocol.methods.parameters import Whole


@ATTACKS.register("over_claim@1")
@dataclass(frozen=True)
class OverClaim(Within):
    """Trains, or attacks in another way, and claims more examples or local steps than it has.

    Parameters
    ----------
    examples, steps
        What it claims; what is so unless given.
    """

    examples: Annotated[int | None, Whole(1, 2**31)] = 1_000_000
    steps: Annotated[int | None, Whole(1, 2**31)] = None

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        made = self.other(context)
        return replace(made, examples=self.examples or made.examples, steps=self.steps or made.steps)
