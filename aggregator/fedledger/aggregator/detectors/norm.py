"""Updates of an unusual norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.context.round_features import median
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.detectors.base import DETECTORS, Finding, Flags
from fedledger.aggregator.detectors.reference import reference_rows
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

    def __call__(self, context: StageContext) -> Flags:
        return [finding is not None for finding in self._findings(context)]

    def _findings(self, context: StageContext) -> list[Finding | None]:
        norms = context.features.norms[: context.count].tolist()
        typical = median([norms[i] for i in self._reference(context)])
        low, high = self.least * typical, self.most * typical
        return [
            (Finding.below("norm", norm, low) or Finding.above("norm", norm, high))
            if norm
            else Finding("norm", norm, low, float("inf"))
            for norm in norms
        ]

    def _reference(self, context: StageContext) -> Sequence[int]:
        return range(context.count)


@DETECTORS.register("norm@2")
@dataclass(frozen=True)
class NormOfAccepted(Norm):
    """Flag an update whose Euclidean norm is far from the median norm of the updates that are not refused.

    Parameters
    ----------
    least, most
        Limits as multiples of that median.
    """

    def __call__(self, context: StageContext) -> Flags:
        return self._findings(context)

    def _reference(self, context: StageContext) -> Sequence[int]:
        return reference_rows(context)
