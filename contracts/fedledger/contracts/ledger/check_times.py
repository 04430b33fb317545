"""Until when what may be done about spot checks: all of it follows from the time of a round's proposal."""

from __future__ import annotations

from fedledger.contracts.ledger.check_history import CheckHistory
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.records import (
    ANSWERED_UNTIL,
    APPEALED_UNTIL,
    DECIDED_UNTIL,
    FOUND_UNTIL,
    SUMMONED_UNTIL,
    CheckState,
)
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory

WAITS_UNTIL = {
    CheckState.SUMMONED: ANSWERED_UNTIL,
    CheckState.ANSWERED: FOUND_UNTIL,
    CheckState.FAILED: APPEALED_UNTIL,
    CheckState.APPEALED: DECIDED_UNTIL,
    CheckState.CLEARED: 0,
    CheckState.CONFIRMED: 0,
}
"""Check periods from the proposal until a check in a state goes on without who should act; others do not go on."""
KNOWN_BLOCKS = 256
"""Blocks after which a chain has forgotten the hash of one."""


class CheckTimes:
    """Knows when rounds of a task were proposed.

    Parameters
    ----------
    ledger
        Is asked for each round once.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._proposed: dict[tuple[int, int, int, bytes], int] = {}

    def until(self, task: TaskHistory, current: RoundHistory, periods: int) -> int:
        """Return the block time that lies so many check periods after a round's proposal."""
        at = current.proposed_at
        key = (task.id, current.index, 0, b"") if at is None else (task.id, current.index, at.block, at.transaction)
        if key not in self._proposed:
            self._proposed[key] = self._ledger.round(task.id, current.index).proposed_at
        return self._proposed[key] + periods * task.params.check_period

    def waits_until(self, task: TaskHistory, check: CheckHistory) -> int | None:
        """Return when a check goes on without who should act; None if it has ended."""
        periods = WAITS_UNTIL.get(check.state)
        return None if periods is None else self.until(task, task.rounds[check.round], periods)

    def is_open(self, task: TaskHistory, check: CheckHistory, now: int) -> bool:
        """Return whether anything will still become of a check; without a finding in time one has passed."""
        current, until = task.rounds[check.round], self.waits_until(task, check)
        if until is None:
            return False
        if check.state is CheckState.ANSWERED:
            return not current.voided and now < until
        # Of a round that was voided nobody fails, and only bonds go back.
        return not current.voided or check.state in (CheckState.APPEALED, CheckState.CLEARED, CheckState.CONFIRMED)

    def is_due(self, task: TaskHistory, check: CheckHistory, now: int) -> bool:
        """Return whether a check can be ended on the ledger."""
        current, until = task.rounds[check.round], self.waits_until(task, check)
        if until is None or check.state is CheckState.ANSWERED or not self.is_open(task, check, now):
            return False
        return current.voided or (current.settled and now >= until)

    def draws(self, task: TaskHistory, current: RoundHistory, now: int, block: int) -> bool:
        """Return whether participants of a round may still be summoned, at this time and block."""
        if not task.params.check_rate or current.voided or current.proposed_at is None:
            return False
        # In the next block, the hash of the proposal's one must still be known.
        known = block + 1 - current.proposed_at.block <= KNOWN_BLOCKS
        return known and now < self.until(task, current, SUMMONED_UNTIL)

    def may_go_on(self, task: TaskHistory, now: int, block: int) -> bool:
        """Return whether any check of a task is open, or can still be drawn."""
        if not task.params.check_rate:
            return False
        if any(self.draws(task, current, now, block) for current in task.proposed):
            return True
        return any(self.is_open(task, check, now) for check in task.checks)
