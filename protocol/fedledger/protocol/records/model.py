"""A model on the wire: named float32 tensors, and the packed vector that training and aggregation work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, prod

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import FixedPoint, IntArray, magnitude
from fedledger.protocol.encoding import tensors
from fedledger.protocol.errors import ContentUnreadableError

LARGEST = 1 << 61
"""Largest magnitude of a model's coordinate in fixed point: the difference of two, and a step, fit in an int64."""


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
        ContentUnreadableError
            If the bytes are not the canonical encoding of float32 tensors, or a number is not finite.

        Notes
        -----
        A zero may have either sign, which stays as it is: in the exact layer both are 0.
        """
        try:
            named = tensors.decode(data)
        except tensors.TensorFormatError as error:
            raise ContentUnreadableError(f"The model cannot be read: {error}.") from error
        floats = {name: tensor for name, tensor in named.items() if tensor.dtype == np.float32}
        if len(floats) != len(named) or not named:
            raise ContentUnreadableError("The model holds something other than float32 tensors.")
        model = cls.of({name: tensor.astype(np.float32, copy=False) for name, tensor in floats.items()})
        if not isfinite(magnitude(model.vector)):
            raise ContentUnreadableError("The model holds a number that is not finite.")
        return model

    def encode(self, vector: NDArray[np.float32] | None = None) -> bytes:
        """Return the canonical bytes of this model, or of another vector in its shape."""
        values = self.vector if vector is None else vector
        ends = np.cumsum([0, *(prod(shape) for shape in self.shapes)])
        parts = zip(self.names, self.shapes, pairwise(ends), strict=True)
        return tensors.encode({name: values[start:end].reshape(shape) for name, shape, (start, end) in parts})


def fixed_model(vector: NDArray[np.float32], fixed: FixedPoint) -> IntArray:
    """Return a model float32[d] in fixed point, int64[d], of magnitude at most ``LARGEST``; maybe beyond the bound.

    Raises
    ------
    ContentUnreadableError
        If a coordinate is not finite, or too large for that.
    """
    require_readable(vector, fixed)
    # A power of two, so the product is exact; and a float32 is rounded to the same integer as its double.
    return fixed.rounded(vector)


def require_readable(vector: NDArray[np.float32], fixed: FixedPoint) -> None:
    """Raise ContentUnreadableError unless a model float32[d] has a value in a task's fixed-point format."""
    largest = magnitude(vector)
    if not largest * fixed.unit <= LARGEST:
        raise ContentUnreadableError(
            f"A number of the model is {largest:g}, which the task's fixed-point format cannot hold.",
            "Publish a model whose numbers are within the bound of the task.",
        )
