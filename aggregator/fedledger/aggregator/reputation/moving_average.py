"""A moving average of verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedledger.aggregator.reputation.base import NEWCOMER, REPUTATION_MODELS, Asked, Standing, Standings
from fedledger.protocol.methods.parameters import Checked, Real
from fedledger.protocol.records.reputation import PPM, Evidence, ppm
from fedledger.protocol.records.verdicts import Verdict

_RATE = Real(0, 1, above=True)


@REPUTATION_MODELS.register("moving_average@1")
@dataclass(frozen=True)
class MovingAverage(Checked):
    """An exponentially weighted moving average of verdicts that falls faster than it rises (Roberts 1959).

    An accepted update moves the average towards 1 by ``rise`` of the way, a refused one towards 0 by ``fall`` of it. A
    round without an update moves one that is above a newcomer's towards that by ``rise`` of the way, and leaves one
    that is below as it is. Only the publisher's own verdicts count. All of it rounds down.

    It resists new names (a newcomer is below anybody who delivers), staying away, and one who behaves well until it is
    trusted: by default one refusal takes whoever has 1 back to 0.5. It forgets a single refusal after some rounds, so
    it does not resist one who attacks rarely; nor splitting into many names that each deliver. Praise cannot reach it.

    Parameters
    ----------
    rise, fall
        Parts of the way.
    newcomer
        The average of whom the publisher has never judged.
    """

    rise: Annotated[float, _RATE] = 0.1
    fall: Annotated[float, _RATE] = 0.5
    newcomer: Annotated[float, NEWCOMER] = 0.5
    heeds_recommenders: ClassVar[bool] = False
    heeds_everybody: ClassVar[bool] = False

    @property
    def unknown(self) -> Standing:
        """A newcomer's average."""
        return (ppm(self.newcomer),)

    def after(self, standing: Standing, verdict: Verdict) -> Standing:
        """Return the average after one more verdict."""
        (value,) = standing
        if verdict in (Verdict.NONE, Verdict.HEARD):
            return standing
        if verdict is Verdict.ACCEPTED:
            return (value + (PPM - value) * ppm(self.rise) // PPM,)
        if verdict.absent:
            above = max(0, value - ppm(self.newcomer))
            return (value - -(-above * ppm(self.rise) // PPM),)
        return self._refused(value)

    def _refused(self, value: int) -> Standing:
        return (value * (PPM - ppm(self.fall)) // PPM,)

    def after_failed_check(self, standing: Standing) -> Standing:
        """Return a newcomer's average after a refusal, or the average after one if that is less."""
        return self._refused(min(standing[0], ppm(self.newcomer)))

    def adopted(self, evidence: Evidence) -> Standing:
        """Return the belief that evidence supports, plus a newcomer's part of what it leaves open."""
        opinion = evidence.opinion
        return (opinion.belief + opinion.uncertainty * ppm(self.newcomer) // PPM,)

    def __call__(self, standings: Standings, asked: Asked) -> list[int]:
        """Return the averages."""
        own = standings.get(asked.publisher, {})
        return [own.get(participant, self.unknown)[0] for participant in asked.participants]
