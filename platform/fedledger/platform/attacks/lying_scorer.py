"""Lies of those who are drawn to score others' updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedledger.node.scoring import NO_SCORE, ScoredRound
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.training import TrainingContext
from fedledger.platform.attacks.base import ATTACKS
from fedledger.platform.attacks.within import Within
from fedledger.protocol.methods.parameters import OneOf
from fedledger.protocol.records.scores import BEST_SCORE, WORST_SCORE

FAVOUR, SLANDER, SILENCE, COPY = "favour", "slander", "silence", "copy"


@ATTACKS.register("lying_scorer@1")
@dataclass(frozen=True)
class LyingScorer(Within):
    """Lies when it is drawn to score updates; what it sends itself is honest, or another attack's.

    Parameters
    ----------
    lie
        ``favour``: the attackers' updates are the best, all others' honestly scored; ``slander``: those of all others
        are the worst; ``silence``: it never commits; ``copy``: it scores as somebody else did in the round before, and
        whom nobody scored then not at all.
    """

    lie: Annotated[str, OneOf((FAVOUR, SLANDER, SILENCE, COPY))] = FAVOUR

    def __call__(self, context: TrainingContext) -> LocalUpdate:
        return self.other(context)

    def scores(self, asked: ScoredRound, honest: list[int]) -> list[int] | None:
        """Return what it says of the updates of a round, given what it would say if it were honest."""
        if self.lie == SILENCE:
            return None
        if self.lie == COPY:
            return [asked.before.get(owner, NO_SCORE) for owner in asked.owners]
        friends = {self.coalition.colleague(number).address for number in self.coalition.members}
        said = list(honest)
        for place, owner in enumerate(asked.owners):
            if owner in friends and self.lie == FAVOUR:
                said[place] = BEST_SCORE
            elif owner not in friends and self.lie == SLANDER:
                said[place] = WORST_SCORE
        return said
