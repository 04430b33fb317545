"""What every program on a ledger is: it looks at the ledger, does what it has to do, and waits.

Each program, be it a participant's, an aggregator's or a verifier's, supplies its duties; how they are tried, which
refusals are forgiven, how long an outage of the store is borne, what is told while nothing is to be done and when to
stop are the same for all.
"""

from __future__ import annotations

import logging
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

from fedledger.contracts.abi import RevertedError
from fedledger.contracts.ledger.access import Access
from fedledger.contracts.ledger.guard import Guard
from fedledger.contracts.ledger.records import Phase
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.contracts.ledger.waits import Wait
from fedledger.protocol.errors import StoreError
from fedledger.protocol.units import shown_time

log = logging.getLogger(__name__)

STORE_PATIENCE, STORE_PAUSE = 300.0, 0.5
"""Seconds for which a store that does not work is borne, and between two tries."""
SHORT_WAIT = 1.0
"""Seconds of waiting that are not worth telling."""
TELL_EVERY = 10.0
"""Seconds between two looks at what is waited for."""
STALL = 60.0
"""Seconds without a block after which the chain's time is said to stand still."""
LONGEST_NAP = 0.2
"""Seconds within which a program that waits notices that it shall stop."""


class Action(Enum):
    """What a program did in one step."""

    WAITED = "waited"
    DONE = "done"

    REGISTERED = "registered"
    ENROLLED = "enrolled"
    COMMITTED = "committed"
    REVEALED = "revealed"
    OBJECTED = "objected"
    COMMITTED_DATA = "data committed"
    CHECK_ANSWERED = "check answered"
    CHECK_APPEALED = "failed check appealed against"

    OPENED = "opened"
    CLOSED = "commitments closed"
    PROPOSED = "proposed"
    ADVANCED = "settled in part"
    SETTLED = "settled"
    VOIDED = "voided"
    ANSWERED = "commitment shown"
    REPORTED = "equivocation reported"
    FINISHED = "finished"

    STAKED = "stake added"
    ENLISTED = "enlisted"
    SERVED = "serving"
    QUIT = "no longer serving"
    STRUCK = "struck off"
    REPLAYED = "replayed"
    REFUTED = "refuted"
    DEMANDED = "commitment demanded"
    CHALLENGED = "challenged"
    DREW = "jury drawn"
    VOTE_COMMITTED = "vote committed"
    VOTE_REVEALED = "vote revealed"
    DECIDED = "votes counted"
    APPEALED = "appealed"
    CLOSED_DISPUTE = "dispute closed"

    SCORERS_CALLED = "scorers called"
    SCORERS_DRAWN = "scorers drawn"
    SCORED = "scores committed"
    SCORES_LISTED = "commitments to scores listed"
    SCORES_REVEALED = "scores revealed"
    TALLIED = "scores tallied"

    SUMMONED = "summoned"
    JUDGED = "judged"
    FINDINGS_COMMITTED = "findings committed"
    FINDINGS_REVEALED = "findings revealed"
    ENDED_CHECKS = "checks ended"


@dataclass(frozen=True)
class Step:
    """One step of a program: what it did, about which round and in which dispute, and what there is to say of it.

    ``also`` is what the same transaction did besides, in order, with the numbers of the rounds.
    """

    action: Action
    task: int = 0
    round: int = 0
    dispute: int | None = None
    detail: str = ""
    also: tuple[tuple[Action, int], ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether nothing was done."""
        return self.action in (Action.WAITED, Action.DONE)

    @property
    def actions(self) -> tuple[tuple[Action, int], ...]:
        """All that was done, and in which rounds."""
        return ((self.action, self.round), *self.also)

    def __str__(self) -> str:
        round_ = f"round {self.round}: " if self.round else ""
        task = f"task {self.task}{', ' if round_ else ': '}" if self.task else ""
        also = "".join(f"; round {index}: {action.value}" for action, index in self.also)
        dispute = "" if self.dispute is None else f" (dispute {self.dispute})"
        return f"{task}{round_}{self.action.value}{also}{dispute}{': ' if self.detail else ''}{self.detail}"


WAITED, DONE = Step(Action.WAITED), Step(Action.DONE)
Seen = TypeVar("Seen")
"""What a program sees of the ledger when it looks at it."""
Duty = Callable[[Seen], Step | None]
"""Something that a program may have to do: the step that it took, or None if there was nothing to do.

A duty that returns a step keeps the program from all that come after it, also where the step is only a wait.
"""


@dataclass(frozen=True)
class Situation:
    """Where a task is: what its logs tell, and the phase that the ledger computes."""

    task: TaskHistory
    phase: Phase

    @cached_property
    def current(self) -> RoundHistory | None:
        """The newest round, if there is one."""
        rounds = self.task.rounds
        return rounds[max(rounds)] if rounds else None


class Stop:
    """Whether a program shall end after the step that it is in."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, *_: Any) -> None:
        """Have the program end."""
        self.asked = True

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the program shall end."""
        until = time.monotonic() + seconds
        while not self.asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LONGEST_NAP))


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Have SIGINT and SIGTERM end a program after the step that it is in; a second one ends it at once."""
    stop = Stop()

    def on_signal(*_: Any) -> None:
        stop.ask()
        log.info("stopping after this step; once more stops at once")
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        restore()


class Watcher:
    """Is told what a program does and what it waits for, and logs it.

    Parameters
    ----------
    logger
        Where it is logged.
    """

    def __init__(self, logger: logging.Logger = log) -> None:
        self.log = logger

    def did(self, step: Step) -> None:
        """Tell a step that did something."""
        self.log.info("%s", step)

    def waits(self, wait: Wait) -> None:
        """Tell what the program waits for; told once for each wait that lasts."""
        self.log.info("waiting for %s", wait)

    def stands_still(self, now: int, seconds: float) -> None:
        """Tell that the chain's time has been ``now`` for some seconds, while a deadline is waited for."""
        self.log.warning(
            "the chain's time has stood still at %s for %.0f s: it passes only with new blocks, and none has come. "
            "Start a development chain with `fedledger chain up`, which makes a block every second unless told "
            "otherwise, or have it mine with evm_mine",
            shown_time(now),
            seconds,
        )

    def outage(self, error: StoreError) -> None:
        """Tell that the store does not work, and that the step is tried again."""
        self.log.warning("%s", error)


class Actor(ABC, Generic[Seen]):
    """A program on a ledger.

    It keeps nothing that it cannot find again, so that it may be killed at any time: what it does next follows from the
    ledger, its store and its journal.

    Parameters
    ----------
    access
        The ledger, the account and the store.
    duties
        What the program may have to do. In each step they are tried in order, until one has something to do.
    races
        Refusals that mean that the ledger has moved between the question and the transaction.
    essential
        Duties without which the program is of no use: it ends where they fail. Where another one fails, a program that
        runs goes on with the rest.
    """

    def __init__(
        self,
        access: Access,
        duties: Sequence[Duty[Seen]],
        races: frozenset[str],
        essential: Collection[Duty[Seen]] = (),
    ) -> None:
        self.access = access
        self.duties = tuple(duties)
        self.races = races
        self.essential = frozenset(self.duties.index(duty) for duty in essential)
        self.seen: Seen | None = None
        self.guard: Guard | None = None

    @abstractmethod
    def look(self) -> Seen:
        """Ask the ledger where things are."""

    @abstractmethod
    def wait(self) -> Wait:
        """Return what the program waits for when it has nothing to do."""

    def step(self) -> Step:
        """Look at the ledger, and do what comes next, if anything."""
        folds = self.access.history.folds
        return self._try(self.look(), folds)

    def act(self, seen: Seen) -> Step:
        """Do what comes next where things are as seen; whoever plays several programs looks once for all of them."""
        return self._try(seen, self.access.history.folds)

    def lost(self, error: RevertedError) -> None:
        """Learn from a refusal that is forgiven."""
        log.warning("%s", error)

    def _try(self, seen: Seen, folds: int) -> Step:
        self.seen = seen
        try:
            for number, duty in enumerate(self.duties):
                if self.guard is None or number in self.essential:
                    step = duty(seen)
                else:
                    step = self.guard(number, partial(duty, seen), _name(duty))
                if step is not None:
                    return step
        except RevertedError as error:
            # Any other refusal stands, unless what was read was reorganised.
            if error.name not in self.races and self.access.history.update().folds == folds:
                raise
            self.lost(error)
        return WAITED

    def run(
        self, poll: float, stop: Stop | None = None, watcher: Watcher | None = None, patience: float = STORE_PATIENCE
    ) -> bool:
        """Take steps until there is nothing left to do, or until told to stop.

        Whatever a duty fails at because of others is told, and keeps the program from none of the other duties.

        Parameters
        ----------
        poll
            Seconds between two looks at the ledger while there is nothing to do.
        stop
            Tells when to stop.
        watcher
            Is told what happens.
        patience
            Seconds for which a store that does not work is borne.

        Returns
        -------
        bool
            Whether all is done; False if the program was told to stop.

        Raises
        ------
        StoreError
            If the store does not work for longer than that.
        """
        stop, watcher = stop or Stop(), watcher or Watcher()
        self.guard = self.guard or Guard(self.races, self.lost)
        waiting, failing = _Waiting(self, watcher), None
        while not stop.asked:
            try:
                step = self.step()
            except StoreError as error:
                failing = failing or time.monotonic()
                if time.monotonic() > failing + patience:
                    raise
                watcher.outage(error)
                stop.pause(STORE_PAUSE)
                continue
            failing = None
            if step.action is Action.DONE:
                return True
            if step.action is Action.WAITED:
                waiting.go_on()
                stop.pause(poll)
            else:
                waiting.end()
                watcher.did(step)
        return False


def _name(duty: object) -> str:
    """Return what a duty is called in messages."""
    return getattr(duty, "__qualname__", type(duty).__name__).lstrip("_").lower()


class _Waiting:
    """Tells what a program waits for, and when that cannot come because the chain's time stands still."""

    def __init__(self, actor: Actor[Any], watcher: Watcher) -> None:
        self._actor, self._watcher = actor, watcher
        self._told: Wait | None = None
        self._time, self._since, self._is_warned = -1, 0.0, False
        self._next: float | None = None

    def end(self) -> None:
        self._told = self._next = None

    def go_on(self) -> None:
        now = time.monotonic()
        if self._next is None:
            self._next = now + SHORT_WAIT
        if now < self._next:
            return
        self._next = now + TELL_EVERY
        wait = self._actor.wait()
        if wait != self._told:
            self._watcher.waits(wait)
            self._told = wait
        shown = self._actor.access.ledger.chain.now()
        if shown != self._time:
            self._time, self._since, self._is_warned = shown, now, False
        elif wait.until is not None and not self._is_warned and now >= self._since + STALL:
            self._is_warned = True
            self._watcher.stands_still(shown, now - self._since)
