"""Measuring again what a stranger's spec names: that it fits together is seen before anything large is built."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from fedledger.aggregator.round.measurement import LiveMeasurer, other_measurers
from fedledger.learning.metrics import HeldOut, measure
from fedledger.learning.models.base import MODELS, build_model
from fedledger.learning.models.shapes import Shapes
from fedledger.learning.objectives.base import Objective, fits
from fedledger.learning.posted_model import posted_objective
from fedledger.learning.task_code import load_task_code
from fedledger.learning.validation_set import (
    DrawnSlices,
    OpenedBlocks,
    RoundExamples,
    WholeSet,
    read_part,
    read_validation,
)
from fedledger.learning.vectors import FlatModel, Layout
from fedledger.ledger_tools.audit.divergence import Divergence, DivergenceError, reading
from fedledger.ledger_tools.audit.replay import awaits_key
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.encoding.encryption import decrypt
from fedledger.protocol.errors import ConfigError, ContentUnreadableError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.seal import BlockIndex, SealSpec
from fedledger.protocol.records.spec import TaskSpec, TensorsSpec
from fedledger.storage.base import Readable

log = logging.getLogger(__name__)


def live_measure(
    spec: TaskSpec,
    store: Readable,
    trusted: frozenset[str],
    index: int = 0,
    seal_key: bytes | None = None,
    in_threads: bool = False,
) -> LiveMeasurer | None:
    """Return a measurer for a spec, or None where nothing can be measured.

    That is where its validation set is sealed and there is no key, or where measuring would run a stranger's code that
    is not trusted. That a sealed set's ciphertext is there is seen all the same.

    ``in_threads`` lets it measure in as many threads as the machine has processors, each with a model of its own.

    Raises
    ------
    ConfigError
        If this release lacks the spec's model or objective, or trusted code cannot be measured.
    DivergenceError
        In round ``index``, if the spec's model, its initial model, its objective, its direction of scores and its
        validation set do not fit each other, or the key does not open the set that the spec names.
    StoreError
        If one of them cannot be had.
    """
    if awaits_key(spec, seal_key):
        store.get(spec.validation.ref)
        return None
    if spec.code is not None and spec.code.cid not in trusted:
        return None
    stored, code = store.get(spec.validation.ref), None
    if spec.code is not None:
        code = load_task_code(store.get(spec.code.ref), spec.code.cid, set(trusted))
    objective = posted_objective(spec, code)
    validation = _Validation(spec, store, objective, index)
    validation.read(stored, seal_key)
    if spec.lower_is_better != objective.lower_is_better:
        # The wrong way round, detectors would spare whoever worsens the score.
        raise DivergenceError(
            Divergence(index, "lower_is_better of the spec", objective.lower_is_better, spec.lower_is_better)
        )
    initial = store.get(spec.initial_model.ref)
    with reading(index, "initial model"):
        file = ModelFile.decode(initial, spec.tensors)
    if code is not None:
        make = code.model
    elif spec.model is not None:
        validation.shapes = _shapes(spec.model, spec.tensors, file, index)
        make = partial(build_model, spec.model.method, spec.model.params)
    else:
        raise ConfigError("The task's spec has neither model nor code.")
    if validation.whole is not None:
        validation.require_fit(index, validation.whole)
    with reading(index, "initial model", "the tensors of the spec's model"):
        model = FlatModel(make(), described=spec.tensors, fixed=file.fixed)
        model.layout.check(file.vector)
    validation.try_out = partial(_try_out if code is not None else _measure_once, model, file)
    if validation.whole is not None:
        validation.try_out(index, validation.whole)
    others = other_measurers(code is not None) if in_threads else 0
    more = [FlatModel(make(), described=spec.tensors, fixed=file.fixed) for _ in range(others)]
    return LiveMeasurer(model, validation.by_round(), more)


class _Validation:
    """A stranger's validation set while it is read, checked, and measured on."""

    def __init__(self, spec: TaskSpec, store: Readable, objective: Objective, index: int) -> None:
        self._spec, self._store, self._objective, self._index = spec, store, objective, index
        self.whole: HeldOut | None = None
        self.blocks: BlockIndex | None = None
        self.shapes: Shapes | None = None
        self.try_out: Callable[[int, HeldOut], None] = lambda index, held_out: None

    def read(self, stored: bytes, seal_key: bytes | None) -> None:
        """Read what the spec names: all examples, or the index of their blocks."""
        seal = self._spec.seal
        if seal is None:
            with reading(self._index, "validation set"):
                self.whole = HeldOut(*read_validation(stored), self._objective)
        elif seal.is_sealed and seal_key is not None:
            with reading(self._index, "validation set", "what the key opens, and the spec names"):
                self.whole = read_part(opened_content(seal, stored, seal_key), seal.examples, self._objective)
        else:
            self.blocks = read_blocks(self._spec, stored, self._index)

    def by_round(self) -> RoundExamples:
        """Return the examples on which each round is judged."""
        seal, digest = self._spec.seal, self._spec.digest
        if seal is None and self.whole is not None:
            return WholeSet(self.whole)
        if seal is not None and self.whole is not None:
            return DrawnSlices(self.whole, seal.slice, digest)
        if seal is None or self.blocks is None:
            raise ValueError("the validation set is read first")
        refs = self.blocks.refs
        return OpenedBlocks(seal, lambda n: self._store.get(refs[n]), digest, self._objective, self._check_block)

    def _check_block(self, index: int, block: HeldOut) -> None:
        self.require_fit(index, block)
        self.try_out(index, block)

    def require_fit(self, index: int, held_out: HeldOut) -> None:
        """Check that a registered model takes the examples, by shapes alone, which take no memory."""
        if self.shapes is None:
            return
        try:
            with reading(index, "validation set", "examples that the spec's model takes"):
                outputs = self.shapes.outputs(held_out.inputs)
            with reading(index, "validation set", "targets that suit the spec's model and objective"):
                fits(self._objective, outputs, held_out.targets, held_out.inputs)
        except NotImplementedError as error:
            _log_unchecked(self._spec.model, error)


def opened_content(seal: SealSpec, stored: bytes, key: bytes) -> bytes:
    """Return the plaintext of a sealed validation set.

    Raises
    ------
    ContentUnreadableError
        If the key does not open the ciphertext, or what it opens is not the content that the spec names.
    """
    plaintext = decrypt(key, stored)
    if seal.plaintext is None or ContentRef.of(plaintext) != seal.plaintext.ref:
        raise ContentUnreadableError("The key opens the ciphertext to another validation set than the spec names.")
    return plaintext


def read_blocks(spec: TaskSpec, stored: bytes, index: int) -> BlockIndex:
    """Return the index of a validation set that is opened in blocks; raises DivergenceError if it is none."""
    with reading(index, "validation set", "the index of its blocks"):
        if spec.seal is None:
            raise ValueError("the spec does not say that it is opened in blocks")
        return BlockIndex.decode(stored, spec.seal)


def _shapes(model: Method, tensors: TensorsSpec | None, file: ModelFile, index: int) -> Shapes | None:
    """Return a registered model's shapes, which must be those of the initial model; None where torch cannot tell.

    It is made of shapes alone, which take no memory.
    """
    MODELS.get(model.method)
    try:
        with reading(index, "model", "one that can be made"):
            shapes = Shapes.of(model.method, model.params)
            layout = Layout.of(shapes.module, tensors)
    except NotImplementedError as error:
        _log_unchecked(model, error)
        return None
    if (layout.names, layout.shapes) != (file.names, file.shapes):
        raise DivergenceError(Divergence(index, "initial model", "the tensors of the spec's model", "others"))
    return shapes


def _log_unchecked(model: Method | None, error: NotImplementedError) -> None:
    # An installed model may compute what torch cannot do with shapes alone; then nobody knows before it is made.
    log.debug("the model %s is not checked before it is made: %s", model and model.method, error)


@contextmanager
def _computing() -> Iterator[None]:
    """Tell what torch cannot compute, such as products of whole numbers and floats, from what it has no memory for."""
    try:
        yield
    except RuntimeError as error:
        if "alloc" in str(error) or "memory" in str(error):
            raise
        raise ConfigError(f"The model cannot compute them: {error}.") from error


def _measure_once(model: FlatModel, initial: ModelFile, index: int, held_out: HeldOut) -> None:
    """Measure the initial model of a registered kind once; raises DivergenceError if it does not take the examples."""
    with reading(index, "validation set", "examples that the spec's model takes"), _computing():
        measure(model, [initial.vector], held_out)


def _try_out(model: FlatModel, initial: ModelFile, index: int, held_out: HeldOut) -> None:
    """Measure the initial model of trusted code once; raises ConfigError if it does not take the examples."""
    try:
        measure(model, [initial.vector], held_out)
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        raise ConfigError(
            f"The task's model cannot be measured on its validation set: {error}.",
            "Nobody can check this task's measurements; its publisher has to post another one.",
        ) from error
