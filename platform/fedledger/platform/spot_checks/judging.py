"""What an auditor finds of an update, given what its participant opened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from fedledger.learning.canonical_examples import CanonicalExamples, restored
from fedledger.learning.data import Dataset
from fedledger.learning.equal_examples import example_keys
from fedledger.learning.models.initial import outputs
from fedledger.learning.posted_model import PostedModel
from fedledger.learning.replayable.descent import replayable, require_replayable
from fedledger.learning.replayable.trajectory import State, has_states
from fedledger.learning.validation_set import read_validation
from fedledger.node.compression import CompressingTrainer
from fedledger.node.own_training import local_trainer
from fedledger.node.solvers.base import LocalUpdate
from fedledger.node.solvers.build import build_solver
from fedledger.node.solvers.minibatch import MAX_STEPS
from fedledger.node.solvers.replayable_sgd import ReplayableSGD
from fedledger.node.spot_checks.opening import MOST_OPENING_BYTES, Opened
from fedledger.node.spot_checks.replay import Drawn, Transcript, WindowReplay, replay_all
from fedledger.node.training import Trainer, TrainingContext
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.keccak import keccak
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.data_root import SALT_BYTES, CommittedExamples, DataRoot
from fedledger.protocol.records.spec import TaskSpec
from fedledger.protocol.records.spot_checks import Check, Reason
from fedledger.protocol.records.update import UpdateHeader, UpdateRefusedError
from fedledger.storage.base import Readable

T = TypeVar("T")
_NO_TRANSCRIPT = bytes(32)


@dataclass(frozen=True)
class Judgement:
    """What an auditor found.

    Parameters
    ----------
    reason
        What is wrong, or that nothing is.
    transcript
        32 bytes that only who replayed can know; zeros where the replay did not come to its end.
    """

    reason: Reason
    transcript: bytes = _NO_TRANSCRIPT

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return self.reason is Reason.PASSED


@dataclass(frozen=True)
class Case:
    """What is known of an update besides what its participant opens.

    Parameters
    ----------
    posted
        The task's model and objective.
    context
        What the update follows from: spec, round, owner, the base that it is relative to.
    update
        Its content.
    root
        What its participant committed to.
    claim
        Keccak-256 of the transcript, as the participant says.
    public
        Keys of the public validation set's examples; see :func:`validation_keys`.
    """

    posted: PostedModel
    context: TrainingContext
    update: bytes
    root: DataRoot
    claim: bytes
    public: Collection[bytes] = field(default_factory=frozenset)

    @property
    def spec(self) -> TaskSpec:
        """The task's."""
        return self.context.spec


class _FailedError(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def validation_keys(spec: TaskSpec, store: Readable) -> frozenset[bytes]:
    """Return the keys of a task's validation examples, as far as they are public from the start.

    Raises
    ------
    StoreError
        If the set cannot be had, or is none.
    """
    if spec.seal is not None:
        return frozenset()
    return frozenset(example_keys(*read_validation(store.get(spec.validation.ref))))


def judge(check: Check, case: Case, plaintext: bytes) -> Judgement:
    """Return what an auditor finds.

    What is opened may be anything; neither memory nor time is spent beyond what the spec and the committed number of
    examples allow.

    Parameters
    ----------
    check
        What is checked, and by whom.
    case
        What is known of it.
    plaintext
        What the participant opened.

    Raises
    ------
    ConfigError
        If this release lacks a method of the spec, or the task's model has no replayable form.
    """
    try:
        transcript = _Trial(check, case).transcript(plaintext)
    except _FailedError as failed:
        return Judgement(failed.reason)
    wrong = keccak(transcript) != case.claim
    return Judgement(Reason.WRONG_CLAIM if wrong else Reason.PASSED, transcript)


class _Trial:
    """Looks at one update; raises _FailedError with what is wrong first."""

    def __init__(self, check: Check, case: Case) -> None:
        solver = build_solver(case.spec.solver.method, case.spec.solver.params)
        if not isinstance(solver, ReplayableSGD):
            raise ConfigError(
                f"Updates of the solver {case.spec.solver.method} cannot be replayed.", "Ask the publisher for another."
            )
        self._check, self._case, self._solver = check, case, solver
        self._model = case.posted.flat()

    def transcript(self, plaintext: bytes) -> bytes:
        """Return the transcript of an update that follows from what is opened."""
        self._require_numbers()
        if len(plaintext) > MOST_OPENING_BYTES:
            raise _FailedError(Reason.UNREADABLE)
        windows, count = self._case.spec.windows, self._case.root.count
        if windows is None:
            return self._whole(_readable(partial(Opened.whole, plaintext, count)))
        drawn = Drawn.of(self._check, self._solver, self._case.context, count, windows)
        return self._in_windows(_readable(partial(Opened.in_windows, plaintext, drawn, count)), drawn)

    def _whole(self, opened: Opened) -> bytes:
        case = self._case
        dataset = self._dataset(opened)
        rows = CanonicalExamples.of(dataset)
        _require(CommittedExamples(rows, opened.secret).root == case.root, Reason.OTHER_DATA)
        trainer = self._trainer(dataset)
        made, transcript = replay_all(self._check, trainer, case.context, opened.secret)
        self._require_sent(made)
        return transcript

    def _in_windows(self, opened: Opened, drawn: Drawn) -> bytes:
        case = self._case
        dataset = self._dataset(opened)
        salts = (opened.secret[start : start + SALT_BYTES] for start in range(0, len(opened.secret), SALT_BYTES))
        shown = dict(zip(drawn.places.tolist(), zip(salts, CanonicalExamples.of(dataset), strict=True), strict=True))
        _require(case.root.holds(shown, opened.siblings), Reason.OTHER_DATA)
        replay, transcript = (
            WindowReplay(self._trainer(dataset), case.context, drawn),
            Transcript(self._check, opened.secret),
        )
        begun = replay.begun()
        if begun is None:
            raise _FailedError(Reason.DOES_NOT_FOLLOW)
        given = _readable(partial(opened.states, drawn, begun))
        states = replay.states({0: begun} | given, transcript)
        self._require_states(states, opened, drawn)
        self._require_sent(replay.update(states[drawn.last]))
        return transcript.digest()

    @cached_property
    def _sent(self) -> UpdateHeader:
        try:
            return wire.read_header(self._case.update)
        except UpdateRefusedError as error:
            raise _FailedError(Reason.DOES_NOT_FOLLOW) from error

    def _require_numbers(self) -> None:
        """Require that the update claims what training on the committed examples has: nothing longer is replayed."""
        count = self._case.root.count
        _require(count <= self._case.spec.most_committed, Reason.EXAMPLES)
        steps = self._solver.steps(count)
        _require((self._sent.examples, self._sent.steps) == (count, steps) and steps <= MAX_STEPS, Reason.EXAMPLES)

    def _dataset(self, opened: Opened) -> Dataset:
        """Return the examples that are shown, which the model takes."""
        model, objective = self._model, self._case.posted.objective
        try:
            inputs = torch.from_numpy(opened.inputs[:1].copy())
            plan = replayable(model, inputs).network.plan
            if plan.whole:
                _require_within(opened.inputs, plan.blocks[0].inputs)
            dataset = restored(opened.inputs, opened.targets, plan.blocks[-1].outputs)
            require_replayable(model, dataset.tensors[0], objective.loss)
            made = outputs(model.module, dataset.inputs[:1])
            if not isinstance(made, torch.Tensor):
                raise _FailedError(Reason.UNREADABLE)
            objective.check(made, dataset.tensors[1], dataset.tensors[0], dataset.classes)
        except (ConfigError, TypeError, ValueError) as error:
            raise _FailedError(Reason.UNREADABLE) from error
        public = self._case.public
        if public and any(key in public for key in example_keys(dataset.inputs, dataset.targets)):
            raise _FailedError(Reason.VALIDATION_ROWS)
        return dataset

    def _trainer(self, dataset: Dataset) -> Trainer:
        trainer = local_trainer(self._case.posted, dataset, self._model)
        return CompressingTrainer(trainer) if self._case.spec.payload else trainer

    def _require_states(self, states: Mapping[int, State], opened: Opened, drawn: Drawn) -> None:
        _require(all(place in states for place in drawn.known), Reason.TRAJECTORY)
        digests = {place: states[place].digest for place in drawn.known}
        root = bytes.fromhex(self._sent.trajectory or "")
        _require(has_states(root, drawn.last + 1, digests, opened.state_siblings), Reason.TRAJECTORY)

    def _require_sent(self, made: LocalUpdate) -> None:
        payload = hashlib.sha256(tensors.encode(made.sent)).hexdigest()
        _require(payload == self._sent.payload, Reason.DOES_NOT_FOLLOW)


def _require(holds: bool, reason: Reason) -> None:
    if not holds:
        raise _FailedError(reason)


def _require_within(words: NDArray[Any], count: int) -> None:
    if words.dtype != np.int64 or words.min() < 0 or words.max() >= count:
        raise ValueError(f"a word is none of {count}")


def _readable(read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        raise _FailedError(Reason.UNREADABLE) from error
