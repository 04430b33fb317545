"""A verifier's replays: each proposed round is replayed once, as soon as its content can be had."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from fedledger.aggregator.round.measurer import Measurer
from fedledger.contracts.ledger.access import place_of
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.contracts.ledger.waits import Patience
from fedledger.ledger_tools.audit.divergence import DivergenceError
from fedledger.ledger_tools.audit.replay import (
    MissingContentError,
    OutageError,
    Replay,
    ReplayedTask,
    content,
    live_measure,
    read_terms,
    refused,
    replay_round,
)
from fedledger.ledger_tools.verifier.context import Context, Key
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import (
    ChainError,
    ContentCorruptError,
    ContentUnavailableError,
    FedledgerError,
    StoreError,
)
from fedledger.protocol.records.spec import TaskSpec
from fedledger.storage.base import ContentStore
from fedledger.storage.durable_files import Name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unable:
    """Why a round cannot be replayed here; ``missing``: the task's spec or validation set cannot be had."""

    reason: str
    missing: bool = False


class WorkingStore:
    """A store whose own faults stop a replay, so that they are not taken for faults of a proposal."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store

    def get(self, ref: ContentRef, limit: int | None = None) -> bytes:
        try:
            return self._store.get(ref, limit)
        except (ContentUnavailableError, ContentCorruptError):
            raise
        except StoreError as error:
            raise OutageError(error.message, error.remedy) from error

    def put(self, data: bytes, file: Name | None = None, ref: ContentRef | None = None) -> ContentRef:
        return self._store.put(data, file, ref)

    def has(self, ref: ContentRef) -> bool:
        return self._store.has(ref)

    def pin(self, ref: ContentRef) -> None:
        self._store.pin(ref)

    def unpin(self, ref: ContentRef) -> None:
        self._store.unpin(ref)


class Replays:
    """The replays that a verifier has made; it can make all of them again."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.store: ContentStore = WorkingStore(context.access.store)
        self._terms: dict[tuple[int, int], tuple[TaskSpec, Measurer | None]] = {}
        self._made: dict[Key, Replay | Unable] = {}
        self._waits: dict[Key, Patience] = {}

    def replay(self, task: TaskHistory, current: RoundHistory) -> Replay | Unable:
        """Replay a proposed round, or say why that cannot be done here."""
        access = self.context.access
        try:
            spec, measure = self._read(task, current.index)
            place = place_of(access.ledger, task.id)
            return replay_round(ReplayedTask(access.history, task, spec, self.store, measure, place), current)
        except MissingContentError as error:
            # It is the publisher's, and every program of the task has it: rather is this the wrong store.
            return Unable(f"{error.divergence}", missing=True)
        except DivergenceError as error:
            return refused(error)
        except (ChainError, OutageError):
            raise
        except FedledgerError as error:
            return Unable(str(error))

    def replayed(self, task: TaskHistory, current: RoundHistory, period: int) -> Replay | Unable | None:
        """Return the replay of a round, made once; None while content of it is waited for.

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
        """Forget a replay: content that it lacked may have come since."""
        self._made.pop(self.context.key(task, current), None)

    def lacks_content(self, task: TaskHistory, current: RoundHistory) -> bool:
        """Return whether a replay was made that lacked content."""
        known = self._made.get(self.context.key(task, current))
        return known is not None and known.missing

    def unchecked(self, task: TaskHistory) -> str:
        """Return why a task's measurements cannot be checked here."""
        spec, _ = self._read(task, 0)
        code = "" if spec.code is None else spec.code.cid
        return f"measuring would run the publisher's code: read it, then give --trust-code {code}"

    def _read(self, task: TaskHistory, index: int) -> tuple[TaskSpec, Measurer | None]:
        key = task.id, self.context.access.history.folds
        if key not in self._terms:
            spec, trusted = read_terms(task, self.store, index), self.context.service.trusted
            measure = content(index, "validation set", lambda: live_measure(spec, self.store, trusted))
            self._terms[key] = spec, measure
        return self._terms[key]
