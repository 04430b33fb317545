"""Updates that harm the model, over rounds or together with pointing away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.context.work_seen import certainty
from fedledger.aggregator.detectors.base import DETECTORS, Finding, work_of
from fedledger.protocol.methods.parameters import Checked, Real
from fedledger.protocol.records.verdicts import Verdict


@DETECTORS.register("harm@1")
@dataclass(frozen=True)
class Harm(Checked):
    """Flag an update whose sender's losses add up, or that points away from the others and does harm.

    Losses on the held-out examples beyond what is common add up over rounds and are forgiven by gains, a cumulative sum
    after Page 1954. A sender whose work lastingly points away from that of the others does harm as well, and so does
    one update that points away and loses. The task's evidence says all this: see ``work@1``.

    Parameters
    ----------
    losses
        Cumulative losses, over the usual gain of a round, above which a sender does harm.
    opposed
        Lasting corroboration, over the median sender's, surely below which a sender works against the others.
    away, loss
        An update does harm whose corroboration in this round, as far as directions are clear and the others are many,
        is below minus ``away`` times the median and whose loss is above ``loss`` usual gains, more if the others are
        few, and above what is pardoned to its sender.
    """

    losses: Annotated[float, Real(0, 4)] = 2.5
    opposed: Annotated[float, Real(-1e6, 0)] = -0.3
    away: Annotated[float, Real(0, 1e6)] = 0.5
    loss: Annotated[float, Real(0, 1e6)] = 0.3
    verdict = Verdict.HARM
    needs_evidence: ClassVar[bool] = True

    def __call__(self, context: StageContext) -> Sequence[Finding | None]:
        seen = work_of(context, "harm@1")
        certain = certainty(context.count) ** 0.5
        found: list[Finding | None] = []
        for i in range(context.count):
            error = float(seen.direction_error[i])
            # Nothing is sure after one round, so an error of 1 stands for what is not known yet.
            unsure = (error * error + 2.0 / float(seen.rounds[i])) ** 0.5
            # Where updates differ much, one of rare data may point away as well.
            against = self.opposed - (1.0 - seen.agreement)
            opposed = Finding.below("lasting corroboration", float(seen.direction[i]) + unsure, against)
            large = max(self.loss / certain, -float(seen.common_loss[i]))
            now = Finding.above("loss while pointing away", -float(seen.gain[i]), large)
            if not seen.clarity * certain * float(seen.corroboration[i]) < -self.away:
                now = None
            found.append(Finding.above("cumulative loss", float(seen.harm[i]), self.losses) or opposed or now)
        return found
