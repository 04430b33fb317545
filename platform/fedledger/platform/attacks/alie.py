"""A little is enough: within the spread of the honest updates, but all to one side."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated

import numpy as np

from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.colluding import Crafted, Rows
from fedledger.protocol.methods.parameters import Real


@ATTACKS.register("alie@1")
@dataclass(frozen=True)
class Alie(Crafted):
    """Sends the mean of the honest updates minus z of their standard deviations.

    A little is enough (Baruch, Baruch and Goldberg 2019, https://arxiv.org/abs/1902.06156).

    Parameters
    ----------
    z
        How many; by default the most at which, of n participants with m attackers, enough honest updates lie farther
        from the mean for a majority to side with the attackers: Φ⁻¹((n − m − k)/(n − m)), k = ⌊n/2⌋ + 1 − m.
    """

    z: Annotated[float | None, Real(-1e12, 1e12)] = None

    def craft(self, rows: Rows) -> Rows:
        """Return the mean minus z standard deviations."""
        z = self._usual_z() if self.z is None else self.z
        return np.asarray(rows.mean(axis=0) - z * rows.std(axis=0))

    def _usual_z(self) -> float:
        m, honest = len(self.coalition.members), len(self.coalition.others)
        supporters = max((honest + m) // 2 + 1 - m, 0)
        share = (honest - supporters) / honest if honest else 0.5
        # Where attackers are a majority they need nobody; three deviations hold nearly all.
        return NormalDist().inv_cdf(min(max(share, 0.001), 0.999))
