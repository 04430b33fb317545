"""Live measurements on a task's validation set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        """Measure a packed vector."""
        return Measurement(*measure(self._model, vector, self._inputs, self._labels))
