"""Whether what a stranger's spec names fits together, found out before anything of the size that it claims is built."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedledger.learning.models.base import MODELS, build_model
from fedledger.learning.validation_set import read_validation
from fedledger.learning.vectors import Layout
from fedledger.ledger_tools.audit.divergence import Divergence, DivergenceError, reading
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.model import ModelFile

log = logging.getLogger(__name__)


def readable_set(content: bytes, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the inputs and labels of a validation set; raises DivergenceError in round ``index`` if it is none."""
    with reading(index, "validation set"):
        return read_validation(content)


def fitting_model(
    model: Method, initial: bytes, inputs: NDArray[np.float32], labels: NDArray[np.int64], index: int
) -> torch.nn.Module:
    """Return a registered model, which has the tensors of its initial model's file and suits the validation set.

    It is first made of shapes alone, which take no memory.

    Parameters
    ----------
    model
        The model.
    initial
        The file.
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
    MODELS.get(model.method)
    with reading(index, "initial model"):
        file = ModelFile.decode(initial)
    try:
        with _fitting(index, "model", "one that can be made"), torch.device("meta"):
            shapes = build_model(model.method, model.params).eval()
            layout = Layout.of(shapes)
        if (layout.names, layout.shapes) != (file.names, file.shapes):
            raise _divergence(index, "initial model", "the tensors of the spec's model", "others")
        with (
            _fitting(index, "validation set", "inputs of the spec's model"),
            torch.device("meta"),
            torch.inference_mode(),
        ):
            outputs = shapes(torch.empty((1, *inputs.shape[1:])))
        if outputs.ndim != 2 or labels.max() >= outputs.shape[1]:
            raise _divergence(index, "validation set", "labels of the spec's model", "others")
    except NotImplementedError as error:
        # An installed model may compute what torch cannot do with shapes alone; then nobody knows before it is made.
        log.debug("the model %s is not checked before it is made: %s", model.method, error)
    return build_model(model.method, model.params)


@contextmanager
def _fitting(index: int, what: str, expected: str) -> Iterator[None]:
    """As :func:`reading`, where shapes alone are computed with: torch tells of those that cannot be by RuntimeError."""
    with reading(index, what, expected):
        try:
            yield
        except NotImplementedError:
            raise
        except RuntimeError as error:
            raise ValueError(str(error)) from error


def _divergence(index: int, what: str, expected: Any, found: Any) -> DivergenceError:
    return DivergenceError(Divergence(index, what, expected, found))
