"""Taking verifiers that serve a task no more out of its pool, where they stand in front of those that do."""

from __future__ import annotations

from functools import partial

from fedledger.contracts.ledger.actor import Action, Step
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import DisputeStatus
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.verifier.context import Context

MOST_STRUCK = 40
"""Places that one call gives up, so that it fits into any block."""


class Striking:
    """Strikes off whoever has a place in a task's pool, and left as a verifier or has too little stake.

    Only the first places of a pool are counted, so those of who left could hide those of who serves.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._failed: dict[int, set[int]] = {}
        self._looked: dict[int, int] = {}

    def is_due(self, history: History, task: TaskHistory) -> bool:
        """Return whether somebody has left, or lost some of its stake, since the ledger said that all serve."""
        return bool(history.former.get(task.id)) or _slashes(history, task) != self._looked.get(task.id, 0)

    def __call__(self, history: History, task: TaskHistory) -> Step | None:
        """Strike those in the front places; the next time, after a call that failed, those behind them."""
        undrawn = any(
            dispute.task == task.id and dispute.status is DisputeStatus.OPEN and dispute.awaits_draw
            for dispute in history.disputes
        )
        if undrawn:
            return None
        return self.context.guard(
            ("strike", task.id), partial(self._strike, history, task), f"task {task.id}, its pool"
        )

    def _strike(self, history: History, task: TaskHistory) -> Step | None:
        access, failed = self.context.access, self._failed.setdefault(task.id, set())
        lapsed = access.ledger.lapsed(task.id)
        if not lapsed:
            self._looked[task.id] = _slashes(history, task)
        gone = [participant for participant in lapsed if participant not in failed][:MOST_STRUCK]
        if not gone:
            failed.clear()
            return None
        failed.update(gone)
        access.ledger.strike(access.account, task.id, gone)
        failed.difference_update(gone)
        return Step(Action.STRUCK, task.id, detail=f"{len(gone)} verifiers that left, or have too little stake")


def _slashes(history: History, task: TaskHistory) -> int:
    """Count how often those who serve a task lost some of their stake."""
    return sum(history.slashed[participant] for participant in history.serving.get(task.id, ()))
