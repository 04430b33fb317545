"""Against trimmed mean and median: every coordinate beyond the honest ones, on the side to which it does not go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np

from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.coalition import OMNISCIENT
from fedledger.platform.attacks.colluding import Crafted, Rows
from fedledger.protocol.arithmetic.random_streams import generator
from fedledger.protocol.methods.parameters import Real

NEAR, FAR = 3.0, 4.0
"""Between so many standard deviations beyond the mean lies what attackers send who do not know the honest updates."""


@ATTACKS.register("fang_trimmed_mean@1")
@dataclass(frozen=True)
class FangTrimmedMean(Crafted):
    """Deviates in each coordinate against the honest mean's sign, just beyond the honest updates.

    Made against trimmed mean and median (Fang et al. 2020, https://arxiv.org/abs/1911.11815, section 4.3), here with
    updates in place of local models. Where the honest mean grows, an omniscient attacker draws from [w/b, w] for the
    least honest value w if that is positive, and from [b·w, w] if not; where it falls, likewise beyond the largest.
    Others know a mean μ and a standard deviation σ of each coordinate, and draw from μ − 4σ to μ − 3σ, or from μ + 3σ
    to μ + 4σ. Each attacker draws for itself.

    Parameters
    ----------
    factor
        b, above 1.
    """

    factor: Annotated[float, Real(1, 1e6)] = 2.0

    def craft(self, rows: Rows, part: Rows | float = 0.5) -> Rows:
        """Return what is sent.

        Parameters
        ----------
        rows
            float64[n, d], what is known of the honest updates.
        part
            Where each coordinate lies between the nearer and the farther end of its interval, from 0 to 1.
        """
        mean = rows.mean(axis=0)
        grows = mean > 0
        if self.knowledge == OMNISCIENT:
            near = np.where(grows, rows.min(axis=0), rows.max(axis=0))
            # The farther end is away from zero where the nearer one lies on the side that is aimed at.
            far = np.where(grows == (near > 0), near / self.factor, near * self.factor)
        else:
            against = np.where(grows, -1.0, 1.0) * rows.std(axis=0)
            near, far = mean + NEAR * against, mean + FAR * against
        return np.asarray(np.where(mean == 0, 0.0, near + part * (far - near)))

    def crafting(self, context: TrainingContext) -> Callable[[Rows], Rows]:
        """Return what crafts the vectors of a round, at random."""
        drawn = generator(context.spec.digest, "fang", context.index, context.owner)
        return lambda rows: partial(self.craft, part=drawn.random(rows.shape[1]))(rows)
