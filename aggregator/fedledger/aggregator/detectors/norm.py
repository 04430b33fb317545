"""Updates of an unusual norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.context.round_features import median
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.detectors.base import DETECTORS
from fedledger.protocol.methods.parameters import Checked, Real
from fedledger.protocol.records.verdicts import Verdict


@DETECTORS.register("norm@1")
@dataclass(frozen=True)
class Norm(Checked):
    """Flag an update whose Euclidean norm is far from the median norm: no work, or an attempt to drown the others.

    Parameters
    ----------
    least, most
        Limits as multiples of the median norm of the round.
    """

    least: Annotated[float, Real(0, 1e12)] = 0.05
    most: Annotated[float, Real(1, 1e12)] = 10.0
    verdict = Verdict.NORM

    def __call__(self, context: StageContext) -> list[bool]:
        seen = context.features
        norms = seen.norms[: seen.count].tolist()
        typical = median(norms)
        return [norm == 0 or not self.least * typical <= norm <= self.most * typical for norm in norms]
