"""Measuring again what a stranger's spec names: that it fits together is seen before anything large is built."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from fedledger.aggregator.round.measurement import LiveMeasurer
from fedledger.aggregator.round.measurer import Measurer
from fedledger.learning.metrics import HeldOut
from fedledger.learning.models.base import MODELS, build_model
from fedledger.learning.models.shapes import Shapes
from fedledger.learning.objectives.base import Objective, build_objective, fits
from fedledger.learning.task_code import TaskCode, load_task_code
from fedledger.learning.validation_set import read_validation
from fedledger.learning.vectors import FlatModel, Layout
from fedledger.ledger_tools.audit.divergence import Divergence, DivergenceError, reading
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import TaskSpec, TensorsSpec
from fedledger.storage.base import ContentStore

log = logging.getLogger(__name__)


def live_measure(spec: TaskSpec, store: ContentStore, trusted: frozenset[str], index: int = 0) -> Measurer | None:
    """Return a measurer for a spec, or None if that would run a stranger's code that is not trusted.

    Raises
    ------
    ConfigError
        If this release lacks the spec's model or objective, or trusted code cannot be measured.
    DivergenceError
        In round ``index``, if the spec's model, its initial model, its objective, its direction of scores and its
        validation set do not fit each other.
    StoreError
        If one of them cannot be had.
    """
    if spec.code is not None and spec.code.cid not in trusted:
        return None
    validation = store.get(spec.validation.ref)
    with reading(index, "validation set"):
        inputs, targets = read_validation(validation)
    code = None
    if spec.code is not None:
        code = load_task_code(store.get(spec.code.ref), spec.code.cid, set(trusted))
    objective = _objective(spec, code)
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
        _require_fit(spec.model, spec, file, HeldOut(inputs, targets, objective), index)
        make = partial(build_model, spec.model.method, spec.model.params)
    else:
        raise ConfigError("The task's spec has neither model nor code.")
    with reading(index, "initial model", "the tensors of the spec's model"):
        model = FlatModel(make(), described=spec.tensors, fixed=file.fixed)
        model.layout.check(file.vector)
    measure = LiveMeasurer(model, validation, objective=objective)
    if code is not None:
        _try_out(measure, file)
    else:
        with reading(index, "validation set", "examples that the spec's model takes"), _computing():
            measure("initial", file.vector)
    return measure


def _objective(spec: TaskSpec, code: TaskCode | None) -> Objective:
    if spec.objective is not None:
        return build_objective(spec.objective.method, spec.objective.params)
    if code is None:
        raise ConfigError("The task's spec has neither objective nor code.", "Ask its publisher for another one.")
    return code.objective()


def _require_fit(model: Method, spec: TaskSpec, file: ModelFile, held_out: HeldOut, index: int) -> None:
    """Check that a registered model has its initial model's tensors and suits its validation set.

    It is made of shapes alone, which take no memory.
    """
    MODELS.get(model.method)
    try:
        _check_shapes(model, spec.tensors, file, held_out, index)
    except NotImplementedError as error:
        # An installed model may compute what torch cannot do with shapes alone; then nobody knows before it is made.
        log.debug("the model %s is not checked before it is made: %s", model.method, error)


def _check_shapes(model: Method, tensors: TensorsSpec | None, file: ModelFile, held_out: HeldOut, index: int) -> None:
    with reading(index, "model", "one that can be made"):
        shapes = Shapes.of(model.method, model.params)
        layout = Layout.of(shapes.module, tensors)
    if (layout.names, layout.shapes) != (file.names, file.shapes):
        raise DivergenceError(Divergence(index, "initial model", "the tensors of the spec's model", "others"))
    with reading(index, "validation set", "examples that the spec's model takes"):
        outputs = shapes.outputs(held_out.inputs)
    with reading(index, "validation set", "targets that suit the spec's model and objective"):
        fits(held_out.objective, outputs, held_out.targets, held_out.inputs)


@contextmanager
def _computing() -> Iterator[None]:
    """Tell what torch cannot compute, such as products of whole numbers and floats, from what it has no memory for."""
    try:
        yield
    except RuntimeError as error:
        if "alloc" in str(error) or "memory" in str(error):
            raise
        raise ConfigError(f"The model cannot compute them: {error}.") from error


def _try_out(measure: Measurer, initial: ModelFile) -> None:
    """Measure the initial model of trusted code once; raises ConfigError if it does not take the validation set."""
    try:
        measure("initial", initial.vector)
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        raise ConfigError(
            f"The task's model cannot be measured on its validation set: {error}.",
            "Nobody can check this task's measurements; its publisher has to post another one.",
        ) from error
