"""The update of the honest participant that is least like the others, sent once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.coalition import KNOWLEDGE, OMNISCIENT
from fedledger.platform.attacks.colluding import NOISE, Colluding
from fedledger.platform.attacks.noise import disguised

ITERATIONS = 20


@ATTACKS.register("mimic@1")
@dataclass(frozen=True)
class Mimic(Colluding):
    """Repeats the honest update with the largest part along the direction of largest variance.

    So one participant counts several times and the others too little (Karimireddy, He and Jaggi 2022,
    https://arxiv.org/abs/2006.09365). Who is not omniscient repeats one of the last round.

    Parameters
    ----------
    knowledge
        What the attackers know of the round.
    noise
        Norm of the noise in which it is disguised, relative to its own.
    """

    knowledge: Annotated[str, KNOWLEDGE] = OMNISCIENT
    noise: Annotated[float, NOISE] = 0.0

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        omniscient = self.knowledge == OMNISCIENT
        known = [] if omniscient else self.coalition.revealed(context)
        known = known or self.coalition.estimates(context, self.knowledge)
        chosen = known[most_extreme(np.stack([update.delta for update in known]))]
        return disguised(context, self.sent(chosen), self.noise)


def most_extreme(deltas: NDArray[np.float32]) -> int:
    """Return the row with the largest part along the direction in which rows differ most, by power iteration."""
    rows = deltas.astype(np.float64)
    rows = rows - rows.mean(axis=0)
    # Sums of products, in one order at any number of threads.
    products = np.array([(rows * row).sum(axis=1) for row in rows])
    part = np.where(np.arange(len(rows)) == int(np.diag(products).argmax()), 1.0, 0.0)
    for _ in range(ITERATIONS):
        part = (products * part).sum(axis=1)
        norm = float(np.sqrt(np.square(part).sum()))
        if not norm or not np.isfinite(norm):
            return 0
        part /= norm
    return int(np.abs(part).argmax())
