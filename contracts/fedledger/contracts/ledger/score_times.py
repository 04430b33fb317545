"""Until when a round's scorers may commit and reveal: it follows from the time at which they were called."""

from __future__ import annotations

from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory

Key = tuple[int, int, int, bytes]


class ScoreTimes:
    """Knows when the scorers of rounds were called.

    Parameters
    ----------
    ledger
        Is asked for each round once.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._called: tuple[Key, int] | None = None

    def after(self, task: TaskHistory, current: RoundHistory, periods: float) -> int:
        """Return the block time that lies so many score periods after the call of a round's scorers.

        Scorers commit until one period after it, and reveal until two.

        Raises
        ------
        ValueError
            If they have not been called.
        """
        if current.scoring is None:
            raise ValueError(f"the scorers of round {current.index} have not been called")
        called = current.scoring.called_at
        key = (task.id, current.index, called.block, called.transaction)
        if self._called is None or self._called[0] != key:
            self._called = key, self._ledger.scoring(task.id).called_at
        return self._called[1] + round(periods * task.params.score_period)
