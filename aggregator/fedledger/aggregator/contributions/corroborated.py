"""Pay for work that the others and the held-out examples corroborate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.context.work_seen import CHANCE, NO_CHANCE, WorkSeen, ramp
from fedledger.aggregator.contributions.base import CONTRIBUTIONS
from fedledger.aggregator.detectors.base import work_of
from fedledger.protocol.methods.parameters import Checked, Real

SCALE = 1 << 20


@CONTRIBUTIONS.register("corroborated@1")
@dataclass(frozen=True)
class Corroborated(Checked):
    """Pay the same for each update that shows work, and less the less sure it is; copies share one pay.

    Each doubt is a factor from 0 to 1: whether the update has more in common with the others than signs at random,
    whether its sender's work lastingly does and does not point away, whether it gains, whether its sender's lastingly
    does, and, where updates agree, whether others support its coordinates. Nothing that its sender claims is looked at,
    nor is its weight. See the evidence ``work@1``.

    Parameters
    ----------
    unpaid, paid
        Lasting work, over the median sender's, up to which nothing is paid and from which on all is.
    unsupported, supported
        Likewise the lasting share that is supported, over the median sender's.
    """

    unpaid: Annotated[float, Real(0, 1e6)] = 0.1
    paid: Annotated[float, Real(0, 1e6)] = 0.35
    unsupported: Annotated[float, Real(0, 1e6)] = 0.45
    supported: Annotated[float, Real(0, 1e6)] = 0.7
    needs_evidence: ClassVar[bool] = True

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        seen = work_of(context, "corroborated@1")
        copies = seen.copies(np.array(weights) > 0)
        return [round(self._surety(seen, i) * SCALE) // copies[i] if weight else 0 for i, weight in enumerate(weights)]

    def _surety(self, seen: WorkSeen, i: int) -> float:
        differing = 1.0 - seen.agreement
        # Where updates differ much, those of rare data may lose.
        common = float(seen.common_loss[i])
        low = min(common, -0.1 - 0.2 * differing)
        now = min(2.0 * common, -0.3 - 0.7 * differing)
        support = ramp(float(seen.support[i]), self.unsupported, self.supported)
        return (
            ramp(float(seen.lasting[i]), self.unpaid, self.paid)
            * ramp(float(seen.likely[i]), -0.5, 0.0)
            * ramp(float(seen.overlap[i]), CHANCE, NO_CHANCE)
            * ramp(seen.clarity_now * float(seen.corroboration[i]), -1.0 - differing, -differing)
            * ramp(float(seen.lasting_gain[i]), low, low + 0.2)
            * ramp(float(seen.gain[i]), now, now + 0.3)
            * (differing + seen.agreement * support)
        )
