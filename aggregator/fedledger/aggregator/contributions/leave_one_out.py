"""Pay by what the round's model loses without an update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Coalition, worth_of


@CONTRIBUTIONS.register("leave_one_out@1")
@dataclass(frozen=True)
class LeaveOneOut:
    """Pay by how much worse the round's model is without an update: score i = max(0, v(all) − v(all but i) − t).

    v is what is measured of a coalition, the margin or else the negative loss, in millionths, and t twice its
    tolerance: a difference up to that may be none on another machine, and counts as none. Without the last update v is
    that of the base. It is the simplest value of data (Cook 1977; Ghorbani and Zou 2019,
    https://arxiv.org/abs/1904.02868) and has known failures: of two updates that say the same, such as copies, neither
    is missed and neither earns; where data are alike, one honest update among many is hardly missed, so pay is mostly
    noise and often nothing; whoever counters what another one spoils earns by it. A round that misses nobody pays
    nobody.
    """

    def most_coalitions(self, rows: int) -> int:
        """All, and all but each."""
        return rows + 1

    def coalitions(self, context: StageContext, weights: Sequence[int]) -> Sequence[Coalition]:
        """Return the updates that count, and each time all of them but one."""
        counted = _counted(weights)
        asked = [counted, *(_without(counted, i) for i in counted)]
        return [members for members in asked if members]

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        counted = _counted(weights)
        scores = [0] * len(weights)
        for i in counted:
            missed = worth_of(context, counted) - worth_of(context, _without(counted, i))
            scores[i] = max(0, missed - context.doubt)
        return scores


def _counted(weights: Sequence[int]) -> Coalition:
    return tuple(i for i, weight in enumerate(weights) if weight)


def _without(members: Coalition, left_out: int) -> Coalition:
    return tuple(i for i in members if i != left_out)
