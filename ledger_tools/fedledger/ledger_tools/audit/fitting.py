"""Whether what a stranger's spec names fits together, found out before anything of the size that it claims is built."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from fedledger.learning.models.base import MODELS, build_model
from fedledger.learning.models.shapes import Shapes
from fedledger.learning.validation_set import read_validation
from fedledger.learning.vectors import FlatModel, Layout
from fedledger.ledger_tools.audit.divergence import Divergence, DivergenceError, reading
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import TaskSpec, TensorsSpec

log = logging.getLogger(__name__)


def readable_set(content: bytes, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the inputs and labels of a validation set; raises DivergenceError in round ``index`` if it is none."""
    with reading(index, "validation set"):
        return read_validation(content)


def fitting_model(
    spec: TaskSpec, initial: bytes, inputs: NDArray[np.float32], labels: NDArray[np.int64], index: int
) -> FlatModel:
    """Return a spec's registered model, which has its initial model's tensors and suits its validation set.

    It is first made of shapes alone, which take no memory.

    Parameters
    ----------
    spec
        The spec, which names one.
    initial
        The initial model's file.
    inputs, labels
        The validation set's.
    index
        The round.

    Raises
    ------
    ConfigError
        If this release has no such model.
    DivergenceError
        In that round, if they do not fit each other.
    """
    model = spec.model
    if model is None:
        raise ConfigError("The task's spec has neither model nor code.")
    MODELS.get(model.method)
    with reading(index, "initial model"):
        file = ModelFile.decode(initial, spec.tensors)
    try:
        _check_shapes(model, spec.tensors, file, inputs, labels, index)
    except NotImplementedError as error:
        # An installed model may compute what torch cannot do with shapes alone; then nobody knows before it is made.
        log.debug("the model %s is not checked before it is made: %s", model.method, error)
    with reading(index, "initial model", "the tensors of the spec's model"):
        return FlatModel(build_model(model.method, model.params), "cpu", spec.tensors, file.fixed)


def _check_shapes(
    model: Method,
    tensors: TensorsSpec | None,
    file: ModelFile,
    inputs: NDArray[np.float32],
    labels: NDArray[np.int64],
    index: int,
) -> None:
    with reading(index, "model", "one that can be made"):
        shapes = Shapes.of(model.method, model.params)
        layout = Layout.of(shapes.module, tensors)
    if (layout.names, layout.shapes) != (file.names, file.shapes):
        raise _unfit(index, "initial model", "the tensors of the spec's model")
    with reading(index, "validation set", "examples that the spec's model takes"):
        outputs = shapes.outputs(inputs.shape[1:])
    if len(outputs) != 2 or labels.max() >= outputs[1]:
        raise _unfit(index, "validation set", "classes of the spec's model")


def _unfit(index: int, what: str, expected: str) -> DivergenceError:
    return DivergenceError(Divergence(index, what, expected, "others"))
