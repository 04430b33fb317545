"""Integer reputation: the mirror of the ledger's ``Evidence`` library, equal to it bit for bit.

Evidence is kept in 32 bits a participant: positive (12 bits), negative (12 bits), missed (8 bits), decayed by
1/16 a round. The opinion is multi-weight subjective logic (Kang et al. 2019): bad evidence weighs 0.6, good
0.4. Uncertainty comes from missed rounds and from a prior worth two rounds, so a newcomer starts at one half.
What counts for a participant rounds down, what counts against it rounds up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from fedledger.protocol.records.verdicts import Verdict

PPM = 1_000_000
UNIT = 240
MISSED_UNIT = 15
PRIOR = 2 * UNIT
POSITIVE_WEIGHT = 4
NEGATIVE_WEIGHT = 6
LANES = 8
LANE_BITS = 32


@dataclass(frozen=True)
class Opinion:
    """A subjective-logic opinion in parts per million; belief + disbelief + uncertainty = 1,000,000."""

    belief: int
    disbelief: int
    uncertainty: int

    @property
    def reputation(self) -> int:
        """Expected trust: belief plus half the uncertainty, in parts per million."""
        return self.belief + self.uncertainty // 2


@dataclass(frozen=True)
class Evidence:
    """Decayed counts of a participant's rounds with one publisher.

    Parameters
    ----------
    positive, negative
        Accepted and refused updates, 240 a round, at most 4095.
    missed
        Rounds without an update, 15 a round, at most 255.
    """

    positive: int = 0
    negative: int = 0
    missed: int = 0

    @lru_cache(maxsize=1 << 16)  # noqa: B019  (the few evidences that there are stay)
    def after(self, verdict: Verdict) -> Evidence:
        """Return the evidence after one more round with this verdict."""
        if verdict in (Verdict.NONE, Verdict.HEARD):
            return self
        positive = self.positive - _ceil_div(self.positive, 16)
        if verdict.absent:
            return Evidence(positive, self.negative, min(255, self.missed - self.missed // 16 + MISSED_UNIT))
        negative = self.negative - self.negative // 16
        missed = self.missed - self.missed // 16
        if verdict is Verdict.ACCEPTED:
            return Evidence(min(4095, positive + UNIT), negative, missed)
        return Evidence(positive, min(4095, negative + UNIT), missed)

    def after_failed_check(self) -> Evidence:
        """Return the evidence after a failed check: what was counted for the participant was not earned."""
        return Evidence(0, min(4095, self.negative + UNIT), self.missed)

    @property
    def opinion(self) -> Opinion:
        """The opinion that follows from the evidence."""
        absent = 16 * self.missed
        total = self.positive + self.negative + absent + PRIOR
        uncertainty = _ceil_div((PRIOR + absent) * PPM, total)
        good, bad = POSITIVE_WEIGHT * self.positive, NEGATIVE_WEIGHT * self.negative
        belief = (PPM - uncertainty) * good // (good + bad) if good + bad else 0
        return Opinion(belief, PPM - belief - uncertainty, uncertainty)

    @cached_property
    def reputation(self) -> int:
        """Reputation in parts per million."""
        return self.opinion.reputation

    def pack(self) -> int:
        """Return the 32 bits that the ledger stores."""
        return self.positive | self.negative << 12 | self.missed << 24

    @classmethod
    def unpack(cls, lane: int) -> Evidence:
        """Return the evidence in 32 bits of the ledger."""
        return cls(lane & 0xFFF, lane >> 12 & 0xFFF, lane >> 24 & 0xFF)


def ppm(value: float) -> int:
    """Return a real number in parts per million, rounded."""
    return round(value * PPM)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
