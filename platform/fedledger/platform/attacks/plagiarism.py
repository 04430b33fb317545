"""A peer's update under noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.coalition import KNOWLEDGE, OMNISCIENT, PROTOCOL
from fedledger.platform.attacks.colluding import NOISE, Colluding
from fedledger.platform.attacks.free_rider import FreeRider
from fedledger.platform.attacks.noise import disguised
from fedledger.protocol.arithmetic.random_streams import generator


@ATTACKS.register("plagiarism@1")
@dataclass(frozen=True)
class Plagiarism(Colluding):
    """Does not train: sends the update of an honest participant, drawn each round, under noise (Lin, Du and Liu 2019).

    https://arxiv.org/abs/1911.12560. It is one of the last round, as nobody sees another's before the own is
    committed; who is omniscient takes one of the same round.

    Parameters
    ----------
    knowledge
        What the attackers know of the round.
    noise
        Norm of the noise, relative to the update's.
    """

    knowledge: Annotated[str, KNOWLEDGE] = PROTOCOL
    noise: Annotated[float, NOISE] = 0.1

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        omniscient = self.knowledge == OMNISCIENT
        known = self.coalition.estimates(context, OMNISCIENT) if omniscient else self.coalition.revealed(context)
        if not known:
            return FreeRider(self.honest)(context)
        rng = generator(context.spec.digest, "plagiarism", context.index, context.owner)
        return disguised(context, self.sent(known[int(rng.integers(len(known)))]), self.noise)
