"""Updates without work of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.context.work_seen import certainty
from fedledger.aggregator.detectors.base import DETECTORS, Finding, work_of
from fedledger.protocol.methods.parameters import Checked, Real
from fedledger.protocol.records.verdicts import Verdict

MANY_ROUNDS = 3.0
"""Over so many rounds a lasting mean says something by itself."""
MUCH = 3.0
"""So many times the least overlap is no chance."""
LIKELY = 0.5
"""So many standard errors above a lasting mean is what it likely is at most."""


@DETECTORS.register("no_work@1")
@dataclass(frozen=True)
class NoWork(Checked):
    """Flag an update that adds nothing to what is public, or nothing that the others found, too.

    Noise, old updates and sums of both have nothing in common with the work of others beyond what is public; who trains
    has. The task's evidence says so: see ``work@1``.

    Parameters
    ----------
    overlap
        An update with less in common with the others, over what random signs have, shows no work; less if they are few,
    doubtful
        if its sender's lasting work is likely below this share of the median sender's, also less if they are few.
    least
        A sender whose lasting work is surely below this share shows none.
    """

    overlap: Annotated[float, Real(0, 1e6)] = 1.1
    doubtful: Annotated[float, Real(-1e6, 1e6)] = 0.35
    least: Annotated[float, Real(-1e6, 1e6)] = 0.15
    verdict = Verdict.NO_WORK
    needs_evidence: ClassVar[bool] = True

    def __call__(self, context: StageContext) -> Sequence[Finding | None]:
        seen = work_of(context, "no_work@1")
        certain = certainty(context.count)
        found: list[Finding | None] = []
        for i in range(context.count):
            if seen.absent[i]:
                found.append(Finding("nothing new", 0.0, 0.0, float("inf")))
                continue
            here = Finding.below("overlap", float(seen.overlap[i]), self.overlap * certain)
            if not float(seen.lasting[i] + LIKELY * seen.lasting_error[i]) < self.doubtful * certain:
                here = None
            surely = float(seen.lasting[i] + seen.lasting_error[i])
            over_rounds = Finding.below("lasting work", surely, self.least)
            # Who has much in common with others and points away does work, if rare or harmful.
            if not (seen.rounds[i] > MANY_ROUNDS and seen.overlap[i] < MUCH * self.overlap):
                over_rounds = None
            found.append(here or over_rounds)
        return found
