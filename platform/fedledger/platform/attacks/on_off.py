"""Honest until a name is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.within import Within
from fedledger.protocol.methods.parameters import Whole


@ATTACKS.register("on_off@1")
@dataclass(frozen=True)
class OnOff(Within):
    """Is honest until a round, and then attacks in another way (Perrone and Nelson 2006; Sun, Han and Liu 2008).

    Parameters
    ----------
    turn
        The first round in which it attacks.
    """

    turn: Annotated[int, Whole(1, 65_536)] = 11

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        return (self.honest if context.index < self.turn else self.other)(context)
