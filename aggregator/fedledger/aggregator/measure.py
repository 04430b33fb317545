"""Live measurements on a task's validation set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.appraise import BASE, MODEL
from fedledger.aggregator.detection import Measurement
from fedledger.learning.metrics import measure
from fedledger.learning.vectors import FlatModel
from fedledger.protocol import tensors
from fedledger.protocol.errors import StoreError

INPUTS, LABELS = "inputs", "labels"


class LiveMeasurer:
    """Measures models by forward passes over the validation set.

    Parameters
    ----------
    model
        The task's model; its parameters are overwritten.
    validation
        The validation set as it is stored: tensors ``inputs`` float32[n, …] and ``labels`` int64[n].
    """

    def __init__(self, model: FlatModel, validation: bytes) -> None:
        try:
            named = tensors.decode(validation)
            self._inputs = np.array(named[INPUTS], np.float32)
            self._labels = np.array(named[LABELS], np.int64)
        except (tensors.TensorFormatError, KeyError) as error:
            raise StoreError(f"The validation set cannot be read: {error}.") from error
        self._model = model
        model.module.eval()
        self._last: tuple[NDArray[np.float32], Measurement] | None = None

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        """Measure a packed vector; a round's base model has been measured already where it is the last one's."""
        if what == BASE and self._last is not None and np.array_equal(self._last[0], vector):
            return self._last[1]
        measured = Measurement(*measure(self._model, vector, self._inputs, self._labels))
        if what == MODEL:
            self._last = vector.copy(), measured
        return measured
