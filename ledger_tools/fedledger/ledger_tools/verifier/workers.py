"""A verifier's worker processes: whom they replay for, in what order, and for how long.

A round is somebody's who may want the verifier to be busy. So each task has one replay at a time; the task that has
taken least time comes first; and a replay that takes long makes room for the next task's, and begins again later. Those
that have made room often take long slices, and never all processes: what is quick to judge is judged in time.
A limit that is reached, and a process that breaks, say that the round cannot be judged here, never that it is wrong.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from fedledger.contracts.ledger.history import History, Position
from fedledger.ledger_tools.audit.replay import OutageError
from fedledger.ledger_tools.verifier.replaying import Found, Job, Order, Unable, Wanted, serve
from fedledger.protocol.errors import ContentCorruptError, ContentUnavailableError, StoreError
from fedledger.storage.base import ContentStore
from fedledger.storage.deadlines import within
from fedledger.storage.worker_process import WorkerEndedError, WorkerProcess

log = logging.getLogger(__name__)

FIRST_SLICE = 5.0
"""Seconds after which a replay makes room where others wait; twice as many the next time."""
FETCHING = 0.5
"""The part of a replay's time after which content that has not come counts as missing."""
LONG_SLICE = 20.0
"""Seconds; those whose slices are longer leave one process to the others, if there are several."""
CREDIT = 60.0
"""Seconds by which a task that was not served for a while, or never, may have taken less time than the others."""
LOOK_EVERY, GRACE = 0.05, 1.0
MOST_KEPT = 256
"""Replays that are kept for whoever ordered them."""
TRIES = 2
"""Processes that may break over one round."""
BROKEN = "the process that replays it breaks; was it out of memory?"
PRELOAD = (
    "fedledger.ledger_tools.verifier.replaying",
    "fedledger.aggregator.round.measurement",
    "fedledger.learning.models.base",
    "fedledger.learning.task_code",
)


@dataclass(frozen=True)
class Limits:
    """What replays may take.

    Parameters
    ----------
    at_once
        Replays at the same time.
    memory
        Bytes for each of them.
    """

    at_once: int
    memory: int


@dataclass
class Ordered:
    """A replay that somebody has ordered.

    Parameters
    ----------
    task, round, place, trusted, order
        See :class:`Job`.
    store
        Where its content is fetched.
    seconds
        How long it may take by the clock, and so of the one processor that it uses.
    """

    task: int
    round: int
    place: tuple[int, str, int]
    trusted: frozenset[str]
    store: ContentStore
    seconds: float
    order: Order = Order.REPLAY
    slice: float = field(default_factory=lambda: FIRST_SLICE)
    broken: int = 0

    @property
    def is_long(self) -> bool:
        """Whether it has taken so long that it must not take all processes."""
        return self.slice > LONG_SLICE


@dataclass
class _Worker:
    process: WorkerProcess
    position: Position = (-1, 0)


@dataclass
class _Attempt:
    """A replay on its way in a thread, which serves its process.

    ``fetched`` are the seconds that its content took; ``ended`` says that nobody waits for it any more.
    """

    ordered: Ordered
    worker: _Worker
    began: float = field(default_factory=time.monotonic)
    fetched: float = 0.0
    ended: bool = False

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began


class Workers:
    """Replays rounds in processes that are kept. All but what its threads do happens in :meth:`ask` and :meth:`close`.

    Parameters
    ----------
    history
        The ledger's history, which the processes follow.
    limits
        What replays may take.
    """

    def __init__(self, history: History, limits: Limits) -> None:
        self._history, self._limits = history, limits
        self._waiting: dict[object, Ordered] = {}
        self._running: dict[object, _Attempt] = {}
        self._fetching: set[int] = set()
        self._idle: list[_Worker] = []
        self._found: dict[object, Found] = {}
        self._spent: dict[int, float] = {}
        self._newest = 0.0
        self._done: SimpleQueue[tuple[object, _Attempt, Found | None]] = SimpleQueue()

    @property
    def busy(self) -> bool:
        """Whether anything that was ordered is not there yet."""
        self._collect()
        self._begin()
        return bool(self._waiting or self._running)

    def ask(self, key: object, ordered: Ordered) -> Found | None:
        """Return what came of a replay, once; None as long as it is not there. The first to ask for it orders it."""
        self._collect()
        if key in self._found:
            return self._found.pop(key)
        if key not in self._waiting and key not in self._running:
            self._waiting[key] = ordered
            # Else new tasks, of which anybody may post many, would come before all that were served for long.
            self._spent[ordered.task] = max(self._spent.get(ordered.task, 0.0), self._newest - CREDIT)
        self._begin()
        return None

    def close(self) -> None:
        """End all processes."""
        for key in [*self._running]:
            self._stop(key)
        self._waiting.clear()
        while self._idle:
            self._idle.pop().process.kill()

    def _collect(self) -> None:
        self._take_done()
        for key, attempt in [*self._running.items()]:
            # A thread that fetches cannot look at the clock.
            if attempt.elapsed > attempt.ordered.seconds + GRACE:
                self._stop(key)
                self._keep(key, Found(_too_long(attempt.ordered), is_whole=False))

    def _keep(self, key: object, found: Found) -> None:
        """Keep what came of a replay until somebody asks for it; what is too late is asked for by nobody."""
        if len(self._found) >= MOST_KEPT:
            self._found.pop(next(iter(self._found)))
        self._found[key] = found

    def _take_done(self) -> None:
        while True:
            try:
                key, attempt, found = self._done.get_nowait()
            except Empty:
                return
            ordered = attempt.ordered
            self._fetching.discard(ordered.task)
            if attempt.ended:
                continue
            self._running.pop(key)
            self._pay(attempt)
            if found is None:
                ordered.broken += 1
                if ordered.broken < TRIES:
                    self._waiting[key] = ordered
                    continue
                found = Found(Unable(BROKEN, limited=True), is_whole=False)
            if found.is_whole:
                self._idle.append(attempt.worker)
            else:
                attempt.worker.process.kill()
            self._keep(key, found)

    def _begin(self) -> None:
        """Begin what is due, and have what takes long make room for it."""
        while self._waiting:
            busy = {attempt.ordered.task for attempt in self._running.values()} | self._fetching
            free = [key for key, ordered in self._waiting.items() if ordered.task not in busy]
            free.sort(key=lambda each: self._spent[self._waiting[each].task])
            key = next((each for each in free if self._has_room(self._waiting[each])), None)
            if key is None:
                return
            ordered = self._waiting.pop(key)
            self._newest = max(self._newest, self._spent[ordered.task])
            self._start(key, ordered)

    def _has_room(self, ordered: Ordered) -> bool:
        """Return whether a replay may begin, for which another one may have to make room."""
        at_once = self._limits.at_once
        long = [key for key, attempt in self._running.items() if attempt.ordered.is_long]
        if ordered.is_long and len(long) >= max(1, at_once - 1):
            return self._made_room(long)
        return len(self._running) < at_once or self._made_room([*self._running])

    def _made_room(self, keys: Sequence[object]) -> bool:
        """Stop what has taken longest of those that have had their time; return whether there was any."""
        late = [key for key in keys if self._running[key].elapsed > self._running[key].ordered.slice]
        if not late:
            return False
        key = max(late, key=lambda each: self._running[each].elapsed)
        ordered = self._running[key].ordered
        self._stop(key)
        ordered.slice *= 2
        self._waiting[key] = ordered
        return True

    def _stop(self, key: object) -> None:
        attempt = self._running.pop(key)
        attempt.ended = True
        self._pay(attempt)
        # Its thread may be in the middle of fetching; a task has one such thread at most.
        self._fetching.add(attempt.ordered.task)
        attempt.worker.process.kill()

    def _pay(self, attempt: _Attempt) -> None:
        task = attempt.ordered.task
        self._spent[task] += attempt.elapsed

    def _start(self, key: object, ordered: Ordered) -> None:
        worker = self._idle.pop() if self._idle else _Worker(WorkerProcess(serve, self._limits.memory, PRELOAD))
        logs = self._history.since(worker.position)
        worker.position = self._history.position
        whole = self._history if logs is None else None
        job = Job(ordered.task, ordered.round, ordered.place, ordered.trusted, whole, logs or (), ordered.order)
        attempt = self._running[key] = _Attempt(ordered, worker)
        try:
            # Here, as the history goes on meanwhile.
            worker.process.send(job)
        except WorkerEndedError as error:
            log.warning("task %d, round %d: %s", ordered.task, ordered.round, error)
            self._done.put((key, attempt, None))
            return
        threading.Thread(target=self._serve, args=(key, attempt), daemon=True).start()

    def _serve(self, key: object, attempt: _Attempt) -> None:
        """Give a process the content that it asks for, until it is done or has reached a limit."""
        ordered, process = attempt.ordered, attempt.worker.process
        found: Found | None = None
        try:
            found = self._served(attempt)
        except WorkerEndedError as error:
            if not attempt.ended:
                log.warning("task %d, round %d: %s", ordered.task, ordered.round, error)
        except Exception:
            log.exception("task %d, round %d", ordered.task, ordered.round)
            process.kill()
        finally:
            self._done.put((key, attempt, found))

    def _served(self, attempt: _Attempt) -> Found:
        ordered, process = attempt.ordered, attempt.worker.process
        while True:
            message: Any = process.receive(LOOK_EVERY)
            if isinstance(message, Found):
                return message
            if isinstance(message, Wanted):
                process.send(_content(attempt, message))
                continue
            if attempt.elapsed > ordered.seconds:
                return Found(_too_long(ordered), is_whole=False)
            if process.memory() > 2 * self._limits.memory:
                # Where the system does not refuse it.
                reason = f"replaying it takes more than {self._limits.memory:,} bytes of memory"
                return Found(Unable(reason, limited=True), is_whole=False)


def _too_long(ordered: Ordered) -> Unable:
    return Unable(f"replaying it takes longer than {ordered.seconds:.0f} s", limited=True)


def _content(attempt: _Attempt, wanted: Wanted) -> bytes | Exception:
    """Return content, or why it cannot be had; a store's own faults are not taken for faults of a proposal.

    What does not come in time counts as missing: otherwise an aggregator would only have to serve its lies slowly.
    """
    left, began = attempt.ordered.seconds * FETCHING - attempt.fetched, time.monotonic()
    try:
        if left <= 0:
            raise ContentUnavailableError(f"{wanted.ref.cid} does not come in time.")
        with within(lambda: left):
            return attempt.ordered.store.get(wanted.ref, wanted.limit)
    except (ContentUnavailableError, ContentCorruptError) as error:
        return error
    except StoreError as error:
        return OutageError(error.message, error.remedy)
    finally:
        attempt.fetched += time.monotonic() - began
