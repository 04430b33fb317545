"""An accomplice's update."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import LocalTrainer, TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.noise import noises
from fedledger.protocol.methods.parameters import Checked, Real


@ATTACKS.register("duplicate@1")
@dataclass(frozen=True)
class Duplicate(Checked):
    """Sends an accomplice's update under a little noise, to be paid twice for one piece of work.

    The accomplice is ``honest`` of the participant that owns ``accomplice_address``.
    """

    honest: LocalTrainer
    accomplice_address: str
    deviation: Annotated[float, Real(0, 1e12)] = 1e-4

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        noise = noises(context, self.deviation)
        trained = self.honest(replace(context, owner=self.accomplice_address))
        delta = trained.delta + noise(len(trained.delta))
        vectors = {name: vector + noise(len(vector)) for name, vector in sorted(trained.vectors.items())}
        return replace(trained, delta=delta, vectors=vectors)
