"""What a participant shows to the auditor of an update, sealed to that auditor alone.

An opening is a file of tensors. Where the whole training is replayed, it holds all examples and the seed of their
salts; where windows are, the examples that these take with their salts, the states that windows begin with and the last
one, and what shows that all of them are what the participant committed to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.canonical_examples import CanonicalExamples
from fedledger.learning.data import Dataset
from fedledger.learning.replayable.trajectory import State, Tracing, Trajectory
from fedledger.learning.vectors import repeatable
from fedledger.node.compression import CompressingTrainer
from fedledger.node.solvers.replayable_sgd import Watched
from fedledger.node.spot_checks.replay import Drawn, Transcript, WindowReplay, local_part, replay_all
from fedledger.node.training import LocalTrainer, Trainer, TrainingContext, training_seed
from fedledger.protocol.arithmetic.random_streams import Restartable
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import MAX_STATE_BYTES
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.encoding.ordered_merkle import DIGEST_BYTES, sibling_count
from fedledger.protocol.encoding.sealed_boxes import OVERHEAD
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_root import SALT_BYTES, SEED_BYTES, CommittedExamples, DataRoot, salts_of
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.spot_checks import Check, Windows

MOST_OPENING_BYTES = MAX_STATE_BYTES - OVERHEAD
"""Of an opening, so that its box is content that a store takes."""
INPUTS, TARGETS, SEED, SALTS, SIBLINGS = "inputs", "targets", "seed", "salts", "siblings"
WEIGHTS, VELOCITIES, STATE_SIBLINGS = "weights", "velocities", "state_siblings"
WHOLE = {INPUTS, TARGETS, SEED}
IN_WINDOWS = {INPUTS, TARGETS, SALTS, SIBLINGS, WEIGHTS, VELOCITIES, STATE_SIBLINGS}


def _none() -> NDArray[np.float32]:
    return np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class Opening:
    """An opening, and the transcript whose Keccak-256 the participant claims.

    Parameters
    ----------
    plaintext
        What is sealed.
    transcript
        32 bytes.
    """

    plaintext: bytes
    transcript: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of what is sealed, which shows that two auditors are shown the same."""
        return hashlib.sha256(self.plaintext).digest()

    @property
    def claim(self) -> bytes:
        """What the participant says of the transcript: its Keccak-256."""
        return keccak(self.transcript)


@dataclass(frozen=True)
class Opened:
    """An opening whose parts have the right sizes, and nothing else of which is known.

    Parameters
    ----------
    inputs, targets
        The examples that are shown.
    secret
        The seed of all salts; or the salts of the examples, one behind the other.
    siblings, state_siblings
        What shows that examples and states were committed to; none where everything is shown.
    weights, velocities
        Of the states that are shown, [k, d] and [k, d or 0]; what they hold is not looked at yet.
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    secret: bytes
    siblings: Sequence[bytes] = ()
    state_siblings: Sequence[bytes] = ()
    weights: NDArray[Any] = field(default_factory=_none)
    velocities: NDArray[Any] = field(default_factory=_none)

    @classmethod
    def whole(cls, plaintext: bytes, count: int) -> Opened:
        """Read a stranger's opening of all examples, of which there are so many.

        Raises
        ------
        ValueError
            If it is none. Nothing is allocated from a size that it claims.
        """
        named = _read(plaintext, WHOLE)
        return cls(*_examples(named, count), _rows(named[SEED], 1, SEED_BYTES)[0])

    @classmethod
    def in_windows(cls, plaintext: bytes, drawn: Drawn, count: int) -> Opened:
        """Read a stranger's opening of windows.

        Parameters
        ----------
        plaintext
            The stranger's bytes.
        drawn
            What it has to show.
        count
            How many examples the participant committed to.

        Raises
        ------
        ValueError
            If it is none. Nothing is allocated from a size that it claims.
        """
        named = _read(plaintext, IN_WINDOWS)
        examples = len(drawn.places)
        return cls(
            *_examples(named, examples),
            b"".join(_rows(named[SALTS], examples, SALT_BYTES)),
            _rows(named[SIBLINGS], sibling_count(drawn.places.tolist(), count), DIGEST_BYTES),
            _rows(named[STATE_SIBLINGS], sibling_count(drawn.known, drawn.last + 1), DIGEST_BYTES),
            named[WEIGHTS],
            named[VELOCITIES],
        )

    def states(self, drawn: Drawn, like: State) -> dict[int, State]:
        """Return the states that are shown, by their places; raises ValueError unless they are such as another one."""
        count = len(drawn.shown)
        weights = _numbers(self.weights, (count, len(like.weights)), like.weights.dtype)
        velocities = _numbers(self.velocities, (count, len(like.velocity)), like.velocity.dtype)
        each = zip(drawn.shown, weights, velocities, strict=True)
        return {place: State(drawn.steps_at(place), np.array(own), np.array(moving)) for place, own, moving in each}


def trained_on(trainer: Trainer) -> Dataset:
    """Return what a participant trains on; raises ConfigError if that is not known."""
    local = trainer.trainer if isinstance(trainer, CompressingTrainer) else trainer
    if not isinstance(local, LocalTrainer):
        raise ConfigError(
            "What this participant trains on is not known, so it cannot commit to it.", "Use `node start`."
        )
    return local.dataset


def committed_examples(spec: TaskSpec, trainer: Trainer, seed: bytes) -> CommittedExamples:
    """Return the examples that a participant of a task trains on, as it commits to them.

    Parameters
    ----------
    spec, trainer
        The task's, and the participant's.
    seed
        Of the salts; see :func:`fedledger.protocol.records.data_root.salt_seed`.

    Raises
    ------
    ConfigError
        If there are none, or more than the task takes, or they are not known.
    """
    dataset = trained_on(trainer)
    count = len(dataset)
    if not 1 <= count <= spec.most_committed:
        raise ConfigError(
            f"The task takes participants with 1 to {spec.most_committed:,} examples, and here are {count:,}.",
            "Take part with fewer of them.",
        )
    if spec.spot_checks is not None and spec.windows is None:
        _require_storable(dataset.inputs.nbytes + dataset.targets.nbytes)
    return CommittedExamples(CanonicalExamples.of(dataset), seed)


def make_opening(check: Check, trainer: Trainer, context: TrainingContext, root: DataRoot, seed: bytes) -> Opening:
    """Return what a participant shows of the update that is checked.

    Parameters
    ----------
    check
        What is checked, and by whom.
    trainer
        The participant's, with its examples.
    context
        What the update follows from.
    root, seed
        What it committed to, and the seed of the salts.

    Raises
    ------
    ConfigError
        If the examples are not those that it committed to, the training cannot be replayed, or the opening is too long.
    """
    committed = committed_examples(context.spec, trainer, seed)
    if committed.root != root:
        raise ConfigError(
            "The examples are not those that this participant committed to.",
            "Bring back the data as they were; what it trained on cannot be shown otherwise.",
        )
    windows = context.spec.windows
    opening = (
        _open_all(check, trainer, context, seed)
        if windows is None
        else _open_windows(check, trainer, context, committed, windows)
    )
    _require_storable(len(opening.plaintext))
    return opening


def _require_storable(length: int) -> None:
    if length > MOST_OPENING_BYTES:
        raise ConfigError(
            f"What an auditor has to see has {length:,} bytes; at most {MOST_OPENING_BYTES:,} can be stored.",
            "Take part with fewer examples, or in a task whose spot checks replay windows.",
        )


def _open_all(check: Check, trainer: Trainer, context: TrainingContext, seed: bytes) -> Opening:
    local, _ = local_part(trainer)
    _, transcript = replay_all(check, trainer, context, seed)
    named = {**_named(local), SEED: np.frombuffer(seed, np.uint8).reshape(1, -1)}
    return Opening(tensors.encode(named, further=True), transcript)


def _open_windows(
    check: Check, trainer: Trainer, context: TrainingContext, committed: CommittedExamples, windows: Windows
) -> Opening:
    local, solver = local_part(trainer)
    drawn = Drawn.of(check, solver, context, len(local.dataset), windows)
    trajectory = Trajectory(kept={0, *drawn.shown})
    rng = Restartable().restart(training_seed(context.spec, context.index, context.owner))
    with repeatable():
        watched = Watched(solver, Tracing(windows.steps, [trajectory.take]))
        watched(local.model, context.base.vector, local.dataset, rng, context.memory, local.objective.loss)
    places = drawn.places.tolist()
    salts = salts_of(committed.seed, places)
    shown = replace(local, dataset=local.dataset.take(drawn.places))
    transcript = Transcript(check, b"".join(salts))
    replayed: Trainer = CompressingTrainer(shown) if isinstance(trainer, CompressingTrainer) else shown
    WindowReplay(replayed, context, drawn).states(trajectory.states, transcript)
    states = [trajectory.states[place] for place in drawn.shown]
    first = trajectory.states[0]
    named = {
        **_named(shown),
        SALTS: _stacked(salts),
        SIBLINGS: _stacked(committed.siblings(places)),
        STATE_SIBLINGS: _stacked(trajectory.siblings(drawn.known)),
        WEIGHTS: np.array([state.weights for state in states], np.float32).reshape(-1, len(first.weights)),
        VELOCITIES: np.array([state.velocity for state in states], first.velocity.dtype).reshape(
            len(states), len(first.velocity)
        ),
    }
    return Opening(tensors.encode(named, further=True), transcript.digest())


def _named(local: LocalTrainer) -> dict[str, NDArray[Any]]:
    return {INPUTS: local.dataset.inputs, TARGETS: local.dataset.targets}


def _stacked(rows: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, DIGEST_BYTES)


def _read(plaintext: bytes, names: set[str]) -> dict[str, NDArray[Any]]:
    named = tensors.decode(plaintext, further=True)
    if set(named) != names:
        raise ValueError(f"it holds other tensors than {', '.join(sorted(names))}")
    return named


def _examples(named: Mapping[str, NDArray[Any]], count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    for name, axes in ((INPUTS, 2), (TARGETS, 1)):
        array = named[name]
        if array.dtype not in (np.float32, np.int64) or array.ndim < axes or len(array) != count or not array.size:
            raise ValueError(f"its {name} are {array.dtype}{list(array.shape)}, of {count} examples")
    return named[INPUTS], named[TARGETS]


def _rows(array: NDArray[Any], count: int, length: int) -> list[bytes]:
    return [row.tobytes() for row in _numbers(array, (count, length), np.dtype(np.uint8))]


def _numbers(array: NDArray[Any], shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"it has {array.dtype}{list(array.shape)} where {dtype}{list(shape)} should be")
    if not np.isfinite(array).all():
        raise ValueError("a number of it is not finite")
    return array
