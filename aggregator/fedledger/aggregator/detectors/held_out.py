"""Updates that raise the held-out loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.detectors.base import DETECTORS, Finding, Flags
from fedledger.aggregator.detectors.reference import harm_limits
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

    def __call__(self, context: StageContext) -> Flags:
        return [finding is not None for finding in self._findings(context)]

    def _findings(self, context: StageContext) -> list[Finding | None]:
        seen = context.features
        return [
            None if seen.gains_score(i) else Finding.above("harm", seen.harm(i), limit)
            for i, limit in enumerate(self._limits(context))
        ]

    def _limits(self, context: StageContext) -> list[float]:
        return [context.features.harmless(i, self.factor) for i in range(context.count)]


@DETECTORS.register("held_out@2")
@dataclass(frozen=True)
class HeldOutOfAccepted(HeldOut):
    """Flag an update that raises the held-out loss far more than those that are not refused, and gains no score.

    A good name never excuses more than a newcomer's update may do; a bad one excuses less.

    Parameters
    ----------
    factor
        How far, in median absolute deviations, at most; a reputation below a newcomer's lowers it.
    """

    def __call__(self, context: StageContext) -> Flags:
        return self._findings(context)

    def _limits(self, context: StageContext) -> list[float]:
        return harm_limits(context, self.factor)
