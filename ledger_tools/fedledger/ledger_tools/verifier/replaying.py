"""What a worker process of a verifier does: it replays rounds that strangers made, and asks for their content.

It follows the ledger's history as the verifier tells it, and has neither a connection nor a key of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

from fedledger.aggregator.round.measurer import Measurer
from fedledger.aggregator.selection.planner import RoundPlanner
from fedledger.contracts.abi import Log
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.ledger_tools.audit.divergence import DivergenceError
from fedledger.ledger_tools.audit.replay import (
    MissingContentError,
    OutageError,
    Replay,
    ReplayedTask,
    awaits_key,
    content,
    read_terms,
    refused,
    replay_round,
    require_methods,
)
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import FedledgerError, StoreError
from fedledger.protocol.records.commitment_batch import Batch
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.signatures import Place
from fedledger.protocol.records.spec import TaskSpec
from fedledger.storage.base import ContentStore
from fedledger.storage.durable_files import Name

TASKS_KEPT = 4
LONGEST_REASON = 400


@dataclass(frozen=True)
class Unable:
    """Why a round cannot be replayed here.

    Parameters
    ----------
    reason
        In words.
    missing
        Whether the task's spec or validation set cannot be had.
    limited
        Whether a limit on time or memory was reached, or a process broke: on a machine with less to do it may succeed.
    """

    reason: str
    missing: bool = False
    limited: bool = False


@dataclass(frozen=True)
class Able:
    """That a task's rounds can be judged here, as far as its terms tell."""


class Order(Enum):
    """What is wanted: a round's replay, the commitments behind its root, or whether the task can be judged here."""

    REPLAY = "replay"
    BATCH = "batch"
    TERMS = "terms"


@dataclass(frozen=True)
class Job:
    """What a worker is to do.

    Parameters
    ----------
    task, round
        Of which task, and of which round; 0 where none is needed.
    place
        What commitments of the task are bound to.
    trusted
        CIDs of code that may be run to measure.
    history
        The ledger's state, if the worker has none that ``logs`` continue.
    logs
        What has come since.
    order
        What is wanted.
    """

    task: int
    round: int
    place: Place
    trusted: frozenset[str]
    history: History | None
    logs: Sequence[Log]
    order: Order = Order.REPLAY


@dataclass(frozen=True)
class Found:
    """What a job came to.

    Parameters
    ----------
    found
        What was wanted, or why it cannot be had; or the error of a store that does not work.
    code
        CID of the code that measuring would run, if the task has such.
    is_whole
        Whether the worker is as good as before; if not, another one should go on.
    """

    found: Replay | Batch | Able | Unable | OutageError
    code: str | None = None
    is_whole: bool = True


@dataclass(frozen=True)
class Wanted:
    """Content that a worker needs."""

    ref: ContentRef
    limit: int | None


class AskingStore:
    """A store whose content another process has."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        self._pipe.send(Wanted(ref, limit))
        answer: bytes | Exception = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def has(self, ref: ContentRef) -> bool:
        raise NotImplementedError("a replay only reads")

    def put(self, data: bytes, file: Name | None = None, ref: ContentRef | None = None) -> ContentRef:
        raise NotImplementedError("a replay only reads")

    def pin(self, ref: ContentRef) -> None:
        raise NotImplementedError("a replay only reads")

    def unpin(self, ref: ContentRef) -> None:
        raise NotImplementedError("a replay only reads")


Terms = tuple[int, bytes | None]
"""A task, and the key of its validation set once that is open."""


class Replayer:
    """Replays rounds one after another; it remembers the last few tasks' terms.

    Parameters
    ----------
    store
        Where content comes from.
    """

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._history: History | None = None
        self._terms: OrderedDict[Terms, tuple[TaskSpec, Measurer | None, RoundPlanner]] = OrderedDict()

    def __call__(self, job: Job) -> Found:
        """Replay a round, whatever its publisher, aggregator and participants wrote."""
        try:
            return self._found(job)
        except OutageError as error:
            return Found(error)
        except FedledgerError as error:
            return Found(Unable(_short(error)))
        except Exception as error:
            # A library's: nobody knows what it left behind.
            reason = f"replaying it ends in {type(error).__name__}: {_short(error)}"
            return Found(Unable(reason, limited=isinstance(error, MemoryError)), is_whole=False)

    def _found(self, job: Job) -> Found:
        if job.history is not None:
            self._history = job.history
            self._terms.clear()
        if self._history is None:
            raise ValueError("the first job brings a history")
        history = self._history.extend(job.logs)
        task = history.task(job.task)
        if job.order is Order.BATCH:
            return Found(self._claimed(task.rounds[job.round]))
        try:
            spec, measure, planner = self._read(task, job)
            code = None if spec.code is None else spec.code.cid
            sealed = awaits_key(spec, task.seal_key)
            if job.order is Order.TERMS:
                require_methods(spec)
                return Found(Able() if measure is not None or sealed else Unable(unchecked(code)), code)
            current = task.rounds[job.round]
            known = ReplayedTask(history, task, spec, self._store, measure, job.place, sealed)
            return Found(_brief(replay_round(known, current, planner)), code)
        except MissingContentError as error:
            # It is the publisher's, and every program of the task has it: rather is this the wrong store.
            return Found(Unable(_short(error.divergence), missing=True))
        except DivergenceError as error:
            # Whatever is proposed under such terms does not follow.
            return Found(Able() if job.order is Order.TERMS else _brief(refused(error)))

    def _claimed(self, current: RoundHistory) -> Batch | Unable:
        """Return the commitments behind a batched round's root, if they can be had."""
        reason = "it has no root"
        for named in (_rooted, self._reported):
            try:
                ref = named(current)
                if ref is None:
                    continue
                batch = Batch.read(self._store.get(ref, canonical.MAX_DOCUMENT_BYTES))
                if batch.root == current.root:
                    return batch
                reason = "they have another root"
            except (StoreError, ValueError, TypeError, LookupError, AttributeError) as error:
                reason = _short(error)
        return Unable(f"the commitments behind the root cannot be had: {reason}")

    def _reported(self, current: RoundHistory) -> ContentRef | None:
        if current.proposal is None:
            return None
        report = canonical.decode(self._store.get(current.proposal.report, canonical.MAX_DOCUMENT_BYTES))
        return Ref.model_validate(report.get("commitments")).ref

    def _read(self, task: TaskHistory, job: Job) -> tuple[TaskSpec, Measurer | None, RoundPlanner]:
        terms = task.id, task.seal_key
        if terms not in self._terms:
            from fedledger.ledger_tools.audit.measuring import live_measure

            spec = read_terms(task, self._store, job.round)
            given = self._store, job.trusted, job.round, task.seal_key
            measure = content(job.round, "validation set", lambda: live_measure(spec, *given))
            self._terms[terms] = spec, measure, RoundPlanner(self._store)
            if len(self._terms) > TASKS_KEPT:
                self._terms.popitem(last=False)
        self._terms.move_to_end(terms)
        return self._terms[terms]


def serve(pipe: Connection) -> None:
    """Replay what is asked for until nobody asks any more."""
    from fedledger.learning.worker import compute_alone

    compute_alone()
    replayer = Replayer(AskingStore(pipe))
    while True:
        job: Any = pipe.recv()
        pipe.send(replayer(job))


def unchecked(code: str | None) -> str:
    """Return why a task's measurements cannot be checked here; ``code`` is the CID of what would be run."""
    return f"measuring would run the publisher's code: read it, then give --trust-code {code or ''}"


def _rooted(current: RoundHistory) -> ContentRef | None:
    return current.batch


def _brief(replay: Replay) -> Replay:
    """Return a replay whose divergence holds no more of what strangers wrote than is shown."""
    found = replay.divergence
    if found is None:
        return replay
    return replace(replay, divergence=replace(found, expected=_short(found.expected), found=_short(found.found)))


def _short(what: object) -> str:
    told = str(what)
    return told if len(told) <= LONGEST_REASON else told[:LONGEST_REASON] + " …"
