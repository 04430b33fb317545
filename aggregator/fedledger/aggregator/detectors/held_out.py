"""Updates that raise the held-out loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.detectors.base import DETECTORS
from fedledger.protocol.methods.parameters import Checked, Real
from fedledger.protocol.records.verdicts import Verdict


@DETECTORS.register("held_out@1")
@dataclass(frozen=True)
class HeldOut(Checked):
    """Flag an update that raises the held-out loss far more than the others, and gains no score.

    Parameters
    ----------
    factor
        How far, in median absolute deviations, for a newcomer; reputation scales it.
    """

    factor: Annotated[float, Real(0, 1e12, above=True)] = 4.0
    verdict = Verdict.HELD_OUT

    def __call__(self, context: StageContext) -> list[bool]:
        seen = context.features
        return [seen.harm(i) > seen.harmless(i, self.factor) and not seen.gains_score(i) for i in range(seen.count)]
