"""Combinations of what was revealed in earlier rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.colluding import NOISE, Colluding, Rows, made_of
from fedledger.platform.attacks.free_rider import FreeRider
from fedledger.platform.attacks.noise import disguised
from fedledger.protocol.arithmetic.random_streams import generator
from fedledger.protocol.methods.parameters import Whole


@ATTACKS.register("old_combination@1")
@dataclass(frozen=True)
class OldCombination(Colluding):
    """Does not train: sends a random convex combination of the last rounds' honest updates under noise.

    Before there is one it sends only noise.

    Parameters
    ----------
    last
        Of how many rounds.
    noise
        Norm of the noise, relative to the combination's.
    """

    last: Annotated[int, Whole(1, 32)] = 4
    noise: Annotated[float, NOISE] = 0.1

    @property
    def rounds(self) -> int:
        """How many rounds back the attack looks."""
        return self.last

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        known = [update for ago in range(1, self.last + 1) for update in self.coalition.revealed(context, ago)]
        if not known:
            return FreeRider(self.honest)(context)
        rng = generator(context.spec.digest, "combination", context.index, context.owner)
        weights = rng.dirichlet(np.ones(len(known)))

        def combine(rows: Rows) -> Rows:
            return np.asarray((rows * weights[:, None]).sum(axis=0))

        return disguised(context, self.sent(made_of(known, combine)), self.noise)
