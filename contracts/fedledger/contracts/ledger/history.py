"""The ledger's state, rebuilt from its logs: what nodes, aggregators, audits and tables all read."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any, Self

from fedledger.contracts.abi import Log
from fedledger.contracts.chain.records import Head
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.state import LedgerState
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.protocol.errors import ChainError

log = logging.getLogger(__name__)

MAX_FOLDS = 10
MAX_RECENT = 10_000
"""Logs that a history remembers for whoever follows it."""


Position = tuple[int, int]
"""How far a history goes; see :attr:`History.position`."""


class History(LedgerState):
    """The ledger's state, folded from logs in order and kept up with a chain.

    A history notices when the last block it read is not on the chain any more, and is then folded again from the first
    block; ``folds`` counts how often.

    Parameters
    ----------
    ledger
        Where :meth:`update` reads new logs; None if logs are only given to :meth:`extend`.
    """

    def __init__(self, ledger: Ledger | None = None) -> None:
        super().__init__()
        self._ledger = ledger
        self._read: Head | None = None
        self.folds = 0
        self._count = 0
        self._recent: deque[Log] = deque(maxlen=MAX_RECENT)

    @property
    def position(self) -> Position:
        """How far the history goes: how often it was folded anew, and how many logs it has folded."""
        return self.folds, self._count

    def extend(self, logs: Iterable[Log]) -> Self:
        """Fold further logs into the state and return it."""
        known = list(logs)
        self._count += len(known)
        self._recent.extend(known)
        return super().extend(known)

    def since(self, position: Position) -> list[Log] | None:
        """Return the logs that came after a position; None if too many have come, or others, to continue it."""
        missing = self._count - position[1]
        if position[0] != self.folds or not 0 <= missing <= len(self._recent):
            return None
        return list(islice(self._recent, len(self._recent) - missing, None))

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to follow the history: all but the way to the chain."""
        return vars(self) | {"_ledger": None, "_recent": deque(maxlen=MAX_RECENT)}

    def update(self) -> History:
        """Read the logs of the blocks that have come since, or all of them after a reorganisation.

        Raises
        ------
        ChainError
            If the chain does not keep its blocks long enough for their logs to be read.
        """
        if self._ledger is None:
            raise ValueError("this history was made without a ledger")
        chain = self._ledger.chain
        for _ in range(MAX_FOLDS):
            head, read = chain.head(), self._read
            if head == read:
                return self
            first = self._ledger.first_block if read is None else read.number + 1
            logs: list[Log] = []
            try:
                logs = list(self._ledger.events(first=first, last=head.number))
            except ChainError:
                if chain.has(head):
                    raise
                if read is not None and chain.has(read):
                    continue
            # Asked after the logs were read: only then do they continue what is known, or belong together.
            if chain.has(read or head):
                self.extend(logs)
                self._read = head if read is None or head.number > read.number else read
                return self
            log.warning("the chain was reorganised near block %d: its logs are read again", head.number)
            self._fold_again()
            chain.forget()
        raise ChainError("The chain changes while it is read.", "Ask for confirmations, or wait until it is stable.")

    def _fold_again(self) -> None:
        self._read = None
        self.folds += 1
        self._count = 0
        self._recent.clear()
        self._task_objects |= self.tasks
        for task in self._task_objects.values():
            # Whoever holds a task that is gone must not see it go on.
            vars(task).update(vars(TaskHistory(task.id, task.publisher, task.params, task.params.model)))
        self._reset()
