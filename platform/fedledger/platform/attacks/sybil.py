"""One participant's work under several names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.colluding import NOISE, Colluding
from fedledger.platform.attacks.noise import disguised


@ATTACKS.register("sybil@1")
@dataclass(frozen=True)
class Sybil(Colluding):
    """Sends the honest update of the first attacker, each under noise of its own (Douceur 2002).

    Parameters
    ----------
    noise
        Norm of the noise, relative to the update's. The first attacker adds none.
    """

    noise: Annotated[float, NOISE] = 0.0

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        first = self.coalition.members[0]
        update = self.sent(self.coalition.trained(first, context))
        return disguised(context, update, self.noise if self.coalition.place(context.owner) else 0.0)
