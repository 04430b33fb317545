"""The ledger's state, rebuilt from its logs: what nodes, aggregators, audits and tables all read."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Self

from fedledger.contracts.abi import Log
from fedledger.contracts.chain.answers import ContradictionError
from fedledger.contracts.chain.logs import BLOOM_BLOCKS
from fedledger.contracts.chain.records import Head
from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.state import LedgerState
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.protocol.errors import ChainError

log = logging.getLogger(__name__)

MAX_FOLDS = 10
MAX_RECENT = 10_000
"""Logs that a history remembers for whoever follows it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before a node that contradicts itself is asked again; doubled each time."""


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
            If the chain does not keep its blocks long enough for their logs to be read, is another one by now, or goes
            on contradicting itself.
        """
        if self._ledger is None:
            raise ValueError("this history was made without a ledger")
        chain, doubt, pause = self._ledger.chain, None, FIRST_PAUSE
        for _ in range(MAX_FOLDS):
            head, read = chain.head(), self._read
            if head == read:
                return self
            logs, doubt = self._told(self._ledger, read, head)
            if logs is None:
                pause = pause if doubt is None else _waited(pause)
                continue
            # Asked after the logs were read: only then do they continue what is known, or belong together.
            if chain.has(read or head):
                doubt = self._follow(logs) or self._lacks(self._ledger, read, head)
                if doubt is None:
                    self._read = head if read is None or head.number > read.number else read
                    return self
                pause = _waited(pause)
            log.warning("the chain was reorganised near block %d: its logs are read again", head.number)
            self._fold_again()
            self._ledger.check_there()
            chain.forget()
        raise doubt or ChainError(
            "The chain changes while it is read.", "Ask for confirmations, or wait until it is stable."
        )

    def _told(
        self, ledger: Ledger, read: Head | None, head: Head
    ) -> tuple[list[Log] | None, ContradictionError | None]:
        """Return the logs between two blocks; None if they must be asked for again, and why if the node is to blame."""
        first = ledger.first_block if read is None else read.number + 1
        try:
            return ledger.all_events(first, head.number), None
        except ContradictionError as error:
            return None, error
        except ChainError:
            if ledger.chain.has(head):
                raise
            # Either the chain has changed since, or nothing that is known is on it.
            return (None, None) if read is not None and ledger.chain.has(read) else ([], None)

    def _follow(self, logs: Sequence[Log]) -> ContradictionError | None:
        """Fold further logs into the state; return what is wrong if they do not follow, and the state is spoilt."""
        try:
            for each in logs:
                self._check_place(each)
                self.extend([each])
        except (ChainError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            return ContradictionError(f"The chain's logs do not follow from each other: {error!r:.200}.")
        return None

    def _lacks(self, ledger: Ledger, read: Head | None, head: Head) -> ContradictionError | None:
        """Return what is wrong if the ledger counts more than the logs of very many blocks tell of."""
        if read is not None or head.number - ledger.first_block < BLOOM_BLOCKS:
            return None
        counted, known = (ledger.participant_count(), ledger.task_count()), (len(self.owners), len(self.tasks))
        if counted == known or ledger.chain.head() != head:
            return None
        return ContradictionError(f"The ledger has {counted} participants and tasks, its logs tell of {known}.")

    def _check_place(self, log: Log) -> None:
        """Check that what the ledger counts is told without a gap; raises ValueError if not."""
        told = log.arguments
        if log.event == "ParticipantRegistered":
            _expect(told["participant"] in self.owners or told["participant"] == len(self.owners), log)
        elif log.event == "TaskPosted":
            _expect(told["task"] == len(self.tasks) + 1, log)
        elif log.event == "RoundOpened":
            _expect(told["round"] == max(self.tasks[told["task"]].rounds, default=0) + 1, log)

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


def _waited(pause: float) -> float:
    time.sleep(pause)
    return min(2 * pause, LONGEST_PAUSE)


def _expect(follows: bool, log: Log) -> None:
    if not follows:
        raise ValueError(f"{log.event} in block {log.block}, log {log.index}, and none before it")
