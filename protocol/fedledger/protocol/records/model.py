"""A model on the wire: named float32 tensors, and the packed vector that training and aggregation work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import ContentInvalidError


@dataclass(frozen=True)
class ModelFile:
    """A model's tensors as one packed vector.

    Parameters
    ----------
    names, shapes
        Sorted names of the tensors, and their shapes.
    vector
        float32[d], the tensors in the order of their names.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    vector: NDArray[np.float32]

    @classmethod
    def of(cls, named: Mapping[str, NDArray[np.float32]]) -> ModelFile:
        """Return the model of named tensors."""
        names = tuple(sorted(named))
        shapes = tuple(tuple(named[name].shape) for name in names)
        return cls(names, shapes, np.concatenate([np.ravel(named[name]) for name in names]))

    @classmethod
    def decode(cls, data: bytes) -> ModelFile:
        """Read a model.

        Raises
        ------
        ContentInvalidError
            If the bytes are not the canonical encoding of float32 tensors.
        """
        try:
            named = tensors.decode(data)
        except tensors.TensorFormatError as error:
            raise ContentInvalidError(f"The model cannot be read: {error}.") from error
        floats = {name: tensor for name, tensor in named.items() if tensor.dtype == np.float32}
        if len(floats) != len(named) or not named:
            raise ContentInvalidError("The model holds something other than float32 tensors.")
        return cls.of({name: tensor.astype(np.float32, copy=False) for name, tensor in floats.items()})

    def encode(self, vector: NDArray[np.float32] | None = None) -> bytes:
        """Return the canonical bytes of this model, or of another vector in its shape."""
        values = self.vector if vector is None else vector
        ends = np.cumsum([0, *(prod(shape) for shape in self.shapes)])
        parts = zip(self.names, self.shapes, pairwise(ends), strict=True)
        return tensors.encode({name: values[start:end].reshape(shape) for name, shape, (start, end) in parts})
