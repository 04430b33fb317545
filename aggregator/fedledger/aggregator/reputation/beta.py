"""The beta reputation system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedledger.aggregator.reputation.base import REPUTATION_MODELS, Asked, Counts, Standings
from fedledger.protocol.records.reputation import PPM


@REPUTATION_MODELS.register("beta@1")
@dataclass(frozen=True)
class Beta(Counts):
    """The expectation (r + 1) / (r + s + 2) over r good and s bad updates (Josang and Ismail 2002).

    Only the publisher's own verdicts count. The paper forgets good and bad alike and weighs them alike (``loss`` 1);
    here a refused update outweighs several accepted ones, and a round without an update forgets the good alone.

    It resists new names (a newcomer has 0.5 and needs rounds to rise), staying away, and one who behaves well until it
    is trusted: what it can save up is at most 1 / (1 - forgetting) rounds, and each refusal takes ``loss`` of them. It
    does not resist splitting into many names that each deliver, which only stakes make dear; and praise cannot reach
    it.
    """

    heeds_recommenders: ClassVar[bool] = False
    heeds_everybody: ClassVar[bool] = False

    def __call__(self, standings: Standings, asked: Asked) -> list[int]:
        """Return the expectations, rounded down."""
        own = standings.get(asked.publisher, {})
        counts = (own.get(participant, self.unknown) for participant in asked.participants)
        return [(good + PPM) * PPM // (good + bad + 2 * PPM) for good, bad in counts]
