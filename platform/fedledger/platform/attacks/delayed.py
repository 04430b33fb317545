"""Honest work, sent late or more than once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.coalition import earlier_round
from fedledger.platform.attacks.colluding import NOISE, Colluding
from fedledger.platform.attacks.noise import disguised
from fedledger.protocol.methods.parameters import Whole

MOST = 64


@ATTACKS.register("delayed@1")
@dataclass(frozen=True)
class Delayed(Colluding):
    """Trains in one of so many rounds on the model of some rounds before, and sends that as an update of each of them.

    In a round it sends what honest training made of the model of ``late`` rounds before, counted from the last round
    in which it trained. As long as there are not so many rounds it takes the first one. So a participant that answers
    too late, or trains less often than it is paid for, looks to the others.

    Parameters
    ----------
    late
        How many rounds old the model is on which it trains.
    every
        It trains in the first of so many rounds.
    noise
        Norm of the noise under which an update is sent again, relative to the update's.
    """

    late: Annotated[int, Whole(0, MOST)] = 1
    every: Annotated[int, Whole(1, MOST)] = 1
    noise: Annotated[float, NOISE] = 0.0

    @property
    def rounds(self) -> int:
        """How many rounds back the attack looks."""
        return self.late + self.every - 1

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        since = (context.index - 1) % self.every
        trained = self.honest(earlier_round(context, min(self.late + since, len(context.earlier))))
        return disguised(context, trained, self.noise if since else 0.0)
