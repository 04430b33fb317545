"""Which tasks a verifier serves: juries of a task are drawn among those who said that they can judge it."""

from __future__ import annotations

import logging
import time
from functools import partial

from fedledger.contracts.ledger.actor import Action, Step
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.replay import OutageError
from fedledger.ledger_tools.verifier.context import Context, Things
from fedledger.ledger_tools.verifier.replaying import Able
from fedledger.ledger_tools.verifier.replays import Replays
from fedledger.ledger_tools.verifier.striking import Striking
from fedledger.protocol.units import shown_time

log = logging.getLogger(__name__)

TRY_AGAIN, LONGEST_AGAIN = 30.0, 3_600.0
"""Seconds after which a task whose terms could not be had, or not be tried within the limits, is looked at again.

After a limit it is twice as long each time, up to the second number.
"""


class Serving:
    """The duty to serve the watched tasks that can be judged here, and no others.

    It also takes verifiers that serve a task no more out of its pool, so that they stand in nobody's way.
    """

    def __init__(self, context: Context, replays: Replays, striking: Striking) -> None:
        self.context = context
        self.replays = replays
        self.striking = striking
        self._later: dict[int, float] = {}
        self._limited: dict[int, int] = {}

    def __call__(self, history: History) -> Step | None:
        """Begin or end the service for one task."""
        own = self.context.access.participant
        if own is None or own not in history.verifiers:
            return None
        tasks: Things = {
            (task.id,): partial(self._look, history, own, task)
            for task in self.context.watched()
            if self._later.get(task.id, 0.0) <= time.monotonic()
        }
        return self.context.first_due("task", tasks)

    def _look(self, history: History, own: int, task: TaskHistory) -> Step | None:
        serving = history.serving.get(task.id, set())
        if own in history.former.get(task.id, ()):
            return self._strike(history, task)
        if own not in serving:
            return self._begin(own, task)
        if task.id in self.context.unable:
            self.context.access.ledger.quit(self.context.access.account, task.id)
            return Step(Action.QUIT, task.id, detail=self.context.unable[task.id])
        return self._strike(history, task)

    def _begin(self, own: int, task: TaskHistory) -> Step | None:
        """Serve a task, if it can be judged here."""
        access = self.context.access
        if task.id in self.context.unable or not access.ledger.is_serving(own):
            return None
        first = access.ledger.may_serve_from(own)
        if access.ledger.chain.now() < first:
            if self.context.once("young"):
                log.info("tasks may be served from %s on, by the chain's time", shown_time(first))
            return None
        try:
            found = self.replays.judged(task)
        except OutageError as error:
            self._wait(task, str(error))
            return None
        if found is None:
            return None
        if isinstance(found, Able):
            access.ledger.serve(access.account, task.id)
            return Step(Action.SERVED, task.id)
        if found.missing:
            self._wait(task, found.reason)
            return None
        if found.limited:
            tries = self._limited[task.id] = self._limited.get(task.id, 0) + 1
            self._wait(task, found.reason, min(TRY_AGAIN * 2.0**tries, LONGEST_AGAIN))
            return None
        self.context.unable[task.id] = found.reason
        log.warning("task %d cannot be judged here, so it is not served: %s", task.id, found.reason)
        return None

    def _wait(self, task: TaskHistory, reason: str, seconds: float = TRY_AGAIN) -> None:
        self._later[task.id] = time.monotonic() + seconds
        if self.context.once("terms", task.id):
            log.warning("task %d cannot be judged yet, and is tried again later: %s", task.id, reason)

    def _strike(self, history: History, task: TaskHistory) -> Step | None:
        """Take out of a task's pool who left as a verifier, if only for a while, or lost its stake."""
        if not self.striking.is_due(history, task):
            return None
        what = "strike", task.id, len(history.former.get(task.id, ()))
        if not self.context.is_turn(task.id, self.context.settings.dispute_period, *what):
            return None
        return self.striking(history, task)
