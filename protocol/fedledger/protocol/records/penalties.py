"""What verdicts cost a stake: the mirror of the ledger's schedule, equal to it to the unit, and what to expect."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fedledger.protocol.records.reputation import PPM, UNIT, Evidence
from fedledger.protocol.records.verdicts import Verdict

GARBAGE = range(Verdict.MALFORMED, Verdict.UNAVAILABLE)
"""Verdicts on an update whose form its sender could have checked."""


@dataclass(frozen=True)
class PenaltySchedule:
    """What a task's participants pay by class of verdict; shares are in parts per million of the penalty.

    Parameters
    ----------
    penalty
        What equivocation costs, and the most that a verdict does.
    garbage_share
        For an update of the wrong form.
    never_revealed_share
        For a commitment that is not opened.
    statistical_share
        For a statistical refusal, times the refusals that the evidence remembers beyond the free ones.
    free_refusals
        How many remembered refusals cost nothing.
    """

    penalty: int
    garbage_share: int = 500_000
    never_revealed_share: int = 250_000
    statistical_share: int = 0
    free_refusals: int = 0

    @property
    def garbage(self) -> int:
        """What an update of the wrong form costs."""
        return self._part(self.garbage_share)

    def cost(self, verdict: Verdict, evidence: Evidence) -> int:
        """Return what a verdict costs, if there is so much; ``evidence`` is that after the verdict."""
        if verdict is Verdict.LATE:
            return self._part(self.never_revealed_share)
        if verdict in GARBAGE:
            return self.garbage
        if verdict.statistical:
            refusals = evidence.negative // UNIT
            return self._part(self.statistical_share * max(0, refusals - self.free_refusals))
        return 0

    def _part(self, share: int) -> int:
        """Return a share of the penalty, rounded up, and no more than all of it."""
        return min(self.penalty, -(-self.penalty * share // PPM))


@dataclass(frozen=True)
class ExpectedLoss:
    """What statistical refusals cost a participant in some rounds.

    Parameters
    ----------
    mean
        The expected loss, in the penalty's unit.
    chance
        The probability that anything is lost at all.
    """

    mean: float
    chance: float


def expected_loss(schedule: PenaltySchedule, rate: float, rounds: int) -> ExpectedLoss:
    """Return what a participant is expected to lose that is refused with the same probability each round.

    The rounds are a Markov chain over the evidence that the ledger keeps, which starts empty; all of its states are
    followed, so nothing is sampled. The stake is taken for large enough.

    Parameters
    ----------
    schedule
        What refusals cost.
    rate
        The probability of a statistical refusal in a round, independent of all others; else the update is accepted.
    rounds
        How many rounds there are.
    """

    @cache
    def steps(negative: int) -> tuple[tuple[float, int, int], ...]:
        """Return what may follow on negative evidence: its probability, the evidence after it, and what it costs."""
        known, following = Evidence(negative=negative), []
        for verdict, chance in ((Verdict.ACCEPTED, 1 - rate), (Verdict.NORM, rate)):
            after = known.after(verdict)
            following.append((chance, after.negative, schedule.cost(verdict, after)))
        return tuple(following)

    # The probability of each state, and the part of it in which nothing was lost yet.
    states, mean = {0: (1.0, 1.0)}, 0.0
    for _ in range(rounds):
        following: dict[int, tuple[float, float]] = {}
        for negative, (probability, unharmed) in states.items():
            for chance, after, cost in steps(negative):
                mean += probability * chance * cost
                before, safe = following.get(after, (0.0, 0.0))
                following[after] = before + probability * chance, safe + (0.0 if cost else unharmed * chance)
        states = following
    return ExpectedLoss(mean, 1 - sum(unharmed for _, unharmed in states.values()))
