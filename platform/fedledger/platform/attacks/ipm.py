"""Inner product manipulation: against the honest mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.colluding import Crafted, Rows
from fedledger.protocol.methods.parameters import Real


@ATTACKS.register("ipm@1")
@dataclass(frozen=True)
class Ipm(Crafted):
    """Sends −factor times the mean of the honest updates.

    Inner product manipulation (Xie, Koyejo and Gupta 2019, https://arxiv.org/abs/1903.03936).
    """

    factor: Annotated[float, Real(0, 1e12)] = 0.5

    def craft(self, rows: Rows) -> Rows:
        """Return the negative multiple of the mean."""
        return np.asarray(-self.factor * rows.mean(axis=0))
