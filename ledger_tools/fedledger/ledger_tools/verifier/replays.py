"""A verifier's replays: each proposed round is replayed once, as soon as its content can be had."""

from __future__ import annotations

import logging

from fedledger.contracts.ledger.access import place_of
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.contracts.ledger.waits import Patience
from fedledger.ledger_tools.audit.replay import OutageError, Replay
from fedledger.ledger_tools.verifier.context import Context, Key
from fedledger.ledger_tools.verifier.replaying import Able, Found, Order, Unable, unchecked
from fedledger.ledger_tools.verifier.workers import Ordered, Workers
from fedledger.protocol.records.commitment_batch import Batch
from fedledger.storage.base import ContentStore

log = logging.getLogger(__name__)

LEAST_SECONDS, MOST_SECONDS = 10.0, 3_600.0
"""Bounds of how long a replay may take; between them it is half of the time that there is."""
MOST_BATCHES = 16
"""Batches of commitments that are remembered."""
MOST_FETCHING = 60.0
"""Seconds for which commitments are waited for at most; after them a jury is asked."""


class Replays:
    """The replays that a verifier has made; it can make all of them again.

    What a stranger's spec, model, code and content bring about happens in other processes, within limits.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.store: ContentStore = context.access.store
        self.workers = Workers(context.access.history, context.service.limits)
        self._code: dict[int, str] = {}
        self._made: dict[Key, Replay | Unable] = {}
        self._waits: dict[Key, Patience] = {}
        self._batches: dict[Key, Batch | Unable] = {}

    @property
    def busy(self) -> bool:
        """Whether rounds are being replayed."""
        return self.workers.busy

    def replay(self, task: TaskHistory, current: RoundHistory) -> Replay | Unable | None:
        """Replay a proposed round, or say why that cannot be done here; None while it is being done.

        Raises
        ------
        OutageError
            If the store does not work.
        """
        done = self._asked(task, current, self._seconds(task))
        if done is None:
            return None
        if done.code is not None:
            self._code[task.id] = done.code
        if isinstance(done.found, OutageError):
            raise done.found
        return done.found if isinstance(done.found, Replay | Unable) else Unable("it was not replayed")

    def claimed(self, task: TaskHistory, current: RoundHistory) -> Batch | Unable | None:
        """Return the commitments behind a batched round's root, or why they cannot be had; None while they come."""
        key = self.context.key(task, current)
        if key not in self._batches:
            seconds = min(task.params.challenge_window / 8, MOST_FETCHING)
            done = self._asked(task, current, seconds, Order.BATCH)
            if done is None:
                return None
            if len(self._batches) >= MOST_BATCHES:
                self._batches.pop(next(iter(self._batches)))
            self._batches[key] = done.found if isinstance(done.found, Batch) else Unable(str(done.found))
        return self._batches[key]

    def judged(self, task: TaskHistory) -> Able | Unable | None:
        """Return whether a task's rounds can be judged here: its methods, its code, its size. None while that is tried.

        Raises
        ------
        OutageError
            If the store does not work.
        """
        key = task.id, self.context.access.history.folds
        done = self.workers.ask(key, self._ordered(task, 0, self._seconds(task), Order.TERMS))
        if done is None:
            return None
        if isinstance(done.found, OutageError):
            raise done.found
        return done.found if isinstance(done.found, Able | Unable) else Unable("it was not tried")

    def _seconds(self, task: TaskHistory) -> float:
        """Return how long a replay of a task's rounds may take."""
        period = max(task.params.challenge_window, self.context.settings.dispute_period)
        return max(LEAST_SECONDS, min(period / 2, MOST_SECONDS))

    def _asked(
        self, task: TaskHistory, current: RoundHistory, seconds: float, order: Order = Order.REPLAY
    ) -> Found | None:
        return self.workers.ask(
            (self.context.key(task, current), order), self._ordered(task, current.index, seconds, order)
        )

    def _ordered(self, task: TaskHistory, index: int, seconds: float, order: Order) -> Ordered:
        place = place_of(self.context.access.ledger, task.id)
        return Ordered(task.id, index, place, self.context.service.trusted, self.store, seconds, order)

    def replayed(self, task: TaskHistory, current: RoundHistory, period: int) -> Replay | Unable | None:
        """Return the replay of a round, made once; None while it is made, or content of it is waited for.

        Parameters
        ----------
        task, current
            The round.
        period
            Seconds that there are to say what the replay found.
        """
        key = self.context.key(task, current)
        if key not in self._made:
            waits = self._waits.setdefault(key, Patience())
            if not waits.over():
                return None
            try:
                found = self.replay(task, current)
            except OutageError as error:
                # Patience with content begins when the store works.
                self._waits[key] = Patience()
                self._waits[key].left(period)
                log.warning("task %d, round %d: %s", task.id, current.index, error)
                return None
            if found is None:
                return None
            left = waits.left(min(self.context.service.patience, period / 4)) if found.missing else 0.0
            if left:
                told = found.divergence if isinstance(found, Replay) else found.reason
                place = f"task {task.id}, round {current.index}"
                log.warning("%s: waiting for content, for %.0f s at most: %s", place, left, told)
                return None
            self._made[key] = found
            del self._waits[key]
        return self._made[key]

    def look_again(self, task: TaskHistory, current: RoundHistory) -> None:
        """Forget a replay: what it lacked may be there by now."""
        self._made.pop(self.context.key(task, current), None)

    def may_differ(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether a replay was made that may end in another way by now: it lacked content, time or memory."""
        known = self._made.get(self.context.key(task, current))
        return known is not None and (known.missing or isinstance(known, Unable))

    def unchecked(self, task: TaskHistory) -> str:
        """Return why a task's measurements cannot be checked here."""
        return unchecked(self._code.get(task.id))
