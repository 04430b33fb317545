"""Rounds of a live task, passed on to trackers by a node's or an aggregator's program once they are settled."""

from __future__ import annotations

from typing import Any

from fedledger.aggregator.reputation.standings import TaskReputations
from fedledger.contracts.ledger.access import TaskAccess
from fedledger.contracts.ledger.actor import Step
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.ledger_tools.report.quality import shown_quality
from fedledger.platform.runs.trackers.base import Tracked
from fedledger.protocol.records.verdicts import Verdict


class LiveTask:
    """Tells trackers of each settled round: its model's loss and score, and how updates were judged.

    Of a participant's own update it tells whether it was accepted, the units that it earned, and the reputation after
    it, in parts per million and by the task's reputation model if it has one.

    Parameters
    ----------
    access
        The task, and the account of the program.
    tracked
        To whom it is passed on.
    """

    def __init__(self, access: TaskAccess, tracked: Tracked) -> None:
        self._access, self._tracked = access, tracked
        self._told: set[int] = set()
        self._reputations = TaskReputations()

    def __call__(self, step: Step | None = None) -> None:
        """Tell of the rounds that have been settled since the last time."""
        for current in self._access.history.update().task(self._access.task).settled:
            if current.index not in self._told:
                self._told.add(current.index)
                self._tracked.log(self._row(current))

    def _row(self, current: RoundHistory) -> dict[str, Any]:
        verdicts = current.verdicts
        row: dict[str, Any] = {
            "round": current.index,
            "accepted": sum(verdict is Verdict.ACCEPTED for verdict in verdicts.values()),
            "refused": sum(verdict.refused for verdict in verdicts.values()),
        }
        own = self._access.participant
        if own in verdicts and current.proposal is not None:
            row |= {
                "own_accepted": int(verdicts[own] is Verdict.ACCEPTED),
                "own_units": current.proposal.shares.get(own, 0),
                "own_reputation": self._reputation(own, current),
            }
        return row | (shown_quality(current, self._access.store, self._access.spec) or {})

    def _reputation(self, own: int, current: RoundHistory) -> int:
        access = self._access
        if access.spec.reputation_model is None:
            return current.left[own].reputation
        task = access.history.task(access.task)
        known = access.history, task, access.spec, current.applied_after
        return self._reputations(*known, sorted(current.left))[own]
