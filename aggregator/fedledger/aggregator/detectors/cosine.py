"""Updates that point away from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.detectors.base import DETECTORS, Finding, Flags
from fedledger.aggregator.detectors.reference import harm_limits
from fedledger.protocol.methods.parameters import Checked, Real
from fedledger.protocol.records.verdicts import Verdict


@DETECTORS.register("cosine@1")
@dataclass(frozen=True)
class Cosine(Checked):
    """Flag an update that points away from the robust centre and does harm.

    An honest participant with unusual data may point away from the others too; it is flagged only if its update
    also raises the held-out loss more than updates of the round do, by ``factor`` median absolute deviations.

    Parameters
    ----------
    threshold
        Cosine to the coordinate-wise median below which an update points away.
    factor
        How far, in median absolute deviations, for a newcomer; reputation scales it.
    """

    threshold: Annotated[float, Real(-1, 1)] = 0.0
    factor: Annotated[float, Real(0, 1e12)] = 2.0
    verdict = Verdict.COSINE
    needs_centre: ClassVar[bool] = True

    def __call__(self, context: StageContext) -> Flags:
        return [finding is not None for finding in self._findings(context)]

    def _findings(self, context: StageContext) -> list[Finding | None]:
        seen = context.features
        return [
            Finding.below("cosine", seen.cosine(i, seen.centre), self.threshold) if seen.harm(i) > limit else None
            for i, limit in enumerate(self._limits(context))
        ]

    def _limits(self, context: StageContext) -> list[float]:
        return [context.features.harmless(i, self.factor) for i in range(context.count)]


@DETECTORS.register("cosine@2")
@dataclass(frozen=True)
class CosineToAccepted(Cosine):
    """Flag an update that points away from the robust centre and does harm, as those that are not refused do not.

    A good name never excuses more harm than a newcomer's update may do; a bad one excuses less.

    Parameters
    ----------
    threshold
        Cosine to the coordinate-wise median below which an update points away.
    factor
        How far, in median absolute deviations, at most; a reputation below a newcomer's lowers it.
    """

    def __call__(self, context: StageContext) -> Flags:
        return self._findings(context)

    def _limits(self, context: StageContext) -> list[float]:
        return harm_limits(context, self.factor)
