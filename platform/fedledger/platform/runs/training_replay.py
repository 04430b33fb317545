"""The training of an experiment whose data are known, made again: which updates follow from them, and which do not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.node.contexts import Contexts, counts
from fedledger.node.solvers.base import LocalUpdate
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ContentCorruptError, ContentUnavailableError
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.update import DELTA, Update, UpdateRefusedError
from fedledger.storage.base import ContentStore
from fedledger.storage.models import Models


@dataclass(frozen=True)
class Difference:
    """An update that does not follow from its participant's data.

    Parameters
    ----------
    round, participant
        Whose it is, by address.
    field
        What differs first: examples, steps, payload or trajectory.
    expected, found
        What follows, and what was sent; digests of payloads.
    distance
        Of two deltas, |sent − trained| / |trained|; None where they cannot be compared. Below a thousandth it may be
        another processor's floating-point arithmetic.
    behaviour
        What the experiment's configuration says of the participant, if it is to attack.
    """

    round: int
    participant: str
    field: str
    expected: Any
    found: Any
    distance: float | None = None
    behaviour: str = ""

    def __str__(self) -> str:
        far = "" if self.distance is None else f"; {self.distance:.3g} times its length away"
        place = f"round {self.round}, update of {self.participant}{f' ({self.behaviour})' if self.behaviour else ''}"
        return f"{place}: {self.field}: expected {self.expected}, found {self.found}{far}"


@dataclass
class TrainingReplay:
    """What was found when training was made again.

    Parameters
    ----------
    updates
        Updates that were made again.
    unknown
        Updates of participants that the experiment does not have.
    unreadable
        Updates that cannot be read, or are relative to no model of their round, which the audit of the round judges.
    differences
        Those that do not follow, the first of each participant; how many there are of each is in ``counts``.
    """

    updates: int = 0
    unknown: int = 0
    unreadable: int = 0
    differences: list[Difference] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def follows(self) -> bool:
        """Whether all updates are of participants whose data are known, and follow from them."""
        return not self.differences and not self.unknown and self.updates > 0

    @property
    def first(self) -> Difference | None:
        """The first update that does not follow."""
        return self.differences[0] if self.differences else None

    def document(self) -> dict[str, Any]:
        """Return this as JSON."""
        return asdict(self)


def replay_training(
    task: TaskHistory,
    store: ContentStore,
    experiment: Experiment,
    watch: Callable[[int, int], None] = lambda done, of: None,
) -> TrainingReplay:
    """Make every update of a task's proposed rounds again, in their order.

    Parameters
    ----------
    task, store
        The task, and its content.
    experiment
        The experiment, with each participant's data.
    watch
        Is told how many rounds are done, and of how many.

    Raises
    ------
    StoreError
        If a model, or the aggregator's state, cannot be had.
    ConfigError
        If a model is none of the task's.
    """
    spec, replay = experiment.spec, TrainingReplay()
    contexts = Contexts(spec, store, Models(store, spec.tensors))
    numbers = {experiment.address(number): number for number in range(experiment.config.participants)}
    trainers = {owner: experiment.trainer(number, honest=True) for owner, number in numbers.items()}
    kept: dict[str, Mapping[str, NDArray[np.float32]]] = {}
    rounds = task.proposed
    for done, current in enumerate(rounds):
        watch(done, len(rounds))
        for participant, owner, reference in _updates(task, current):
            if owner not in trainers:
                replay.unknown += 1
                continue
            sent = _read(store, reference, spec)
            staleness = None if sent is None else current.staleness_of(bytes.fromhex(sent.header.base))
            if sent is None or staleness is None:
                replay.unreadable += 1
                continue
            trained = trainers[owner](contexts(task, current, owner, staleness, kept.get(owner, {})))
            replay.updates += 1
            if (found := _difference(current.index, owner, trained, sent)) is not None:
                if owner not in replay.counts:
                    behaviour = experiment.behaviours[numbers[owner]]
                    replay.differences.append(replace(found, behaviour="" if behaviour == HONEST else behaviour))
                replay.counts[owner] = replay.counts.get(owner, 0) + 1
            if trained.state and counts(task, current, participant):
                kept[owner] = trained.state
    watch(len(rounds), len(rounds))
    return replay


def _updates(task: TaskHistory, current: RoundHistory) -> Iterator[tuple[int, str, ContentRef]]:
    """Yield the updates of a round, by their participants' addresses."""
    shown = current.delivered if task.batched else {i: reveal.update for i, reveal in current.reveals.items()}
    for participant in sorted(shown, key=lambda i: current.owners[i].lower()):
        yield participant, current.owners[participant], shown[participant]


def _read(store: ContentStore, reference: ContentRef, spec: TaskSpec) -> Update | None:
    """Return an update, or None if it cannot be read."""
    try:
        return wire.decode(store.get(reference, spec.limits.max_update_bytes))
    except (UpdateRefusedError, ContentUnavailableError, ContentCorruptError):
        return None


def _difference(index: int, owner: str, trained: LocalUpdate, sent: Update) -> Difference | None:
    """Return the first thing in which an update differs from what follows from its participant's data."""
    header = sent.header
    payload = hashlib.sha256(tensors.encode(trained.sent)).hexdigest()
    pairs = {
        "examples": (trained.examples, header.examples),
        "steps": (trained.steps, header.steps),
        "payload": (payload, header.payload),
        "trajectory": (trained.trajectory.hex() or None, header.trajectory),
    }
    for name, (expected, found) in pairs.items():
        if expected != found:
            return Difference(index, owner, name, expected, found, _distance(trained, sent))
    return None


def _distance(trained: LocalUpdate, sent: Update) -> float | None:
    own, other = trained.sent.get(DELTA), sent.vectors.get(DELTA)
    if own is None or other is None or own.shape != other.shape or own.dtype.kind != "f" or other.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        exact = own.astype(np.float64)
        length = float(np.linalg.norm(exact))
        distance = float(np.linalg.norm(other.astype(np.float64) - exact))
    return distance / length if length and np.isfinite(distance) else None
