"""A model on the wire: named float32 tensors, and the packed vector that training and aggregation work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import isfinite, prod

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import FixedPoint, IntArray, magnitude
from fedledger.protocol.encoding import tensors as encoding
from fedledger.protocol.errors import ContentUnreadableError
from fedledger.protocol.records.spec import TensorsSpec

LARGEST = 1 << 61
"""Largest magnitude of a model's coordinate in fixed point: the difference of two, and a step, fit in an int64."""


@dataclass(frozen=True)
class ModelFile:
    """A model's tensors that training moves as one packed vector, and those that it leaves as they are.

    Parameters
    ----------
    names, shapes
        Names of the tensors in the vector, and their shapes: first those that updates move, then the statistics, each
        sorted.
    vector
        float32[d + s]: these tensors, one after another.
    statistics
        Number of coordinates s of the statistics.
    fixed
        What no update moves, by name; only the initial model's file holds it.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    vector: NDArray[np.float32]
    statistics: int = 0
    fixed: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        """Number of coordinates d that updates move: the first ones of the vector."""
        return len(self.vector) - self.statistics

    @property
    def trained(self) -> NDArray[np.float32]:
        """What updates move, float32[d]."""
        return self.vector[: self.dimension]

    @property
    def statistic_values(self) -> NDArray[np.float32]:
        """The statistics, float32[s]."""
        return self.vector[self.dimension :]

    @classmethod
    def of(cls, named: Mapping[str, NDArray[np.generic]], tensors: TensorsSpec | None = None) -> ModelFile:
        """Return the model of named tensors; without a description, updates move all of them.

        Raises
        ------
        ValueError
            If they are not as described, or what moves is not float32.
        """
        described = TensorsSpec() if tensors is None else tensors
        lengths = {statistic.name: statistic.length for statistic in described.statistics}
        fixed = {name: named[name] for name in described.fixed if name in named}
        trained = sorted(set(named) - set(fixed) - set(lengths))
        names = (*trained, *lengths)
        if not trained or any(name not in named or named[name].size != size for name, size in lengths.items()):
            raise ValueError("it does not hold the tensors that the task's spec describes")
        if any(named[name].dtype != np.float32 for name in names):
            raise ValueError("it holds something other than float32 tensors")
        vector = np.concatenate([np.ravel(named[name]).astype(np.float32, copy=False) for name in names])
        return cls(names, tuple(named[name].shape for name in names), vector, described.length, fixed)

    @classmethod
    def decode(cls, data: bytes, tensors: TensorsSpec | None = None) -> ModelFile:
        """Read a model whose tensors are as a task's spec describes them.

        Raises
        ------
        ContentUnreadableError
            If the bytes are not the canonical encoding of such tensors, or a number that moves is not finite.

        Notes
        -----
        A zero may have either sign, which stays as it is: in the exact layer both are 0.
        """
        try:
            model = cls.of(encoding.decode(data, further=tensors is not None), tensors)
        except ValueError as error:
            raise ContentUnreadableError(f"The model cannot be read: {error}.") from error
        if not isfinite(magnitude(model.vector)):
            raise ContentUnreadableError("The model holds a number that is not finite.")
        return model

    def moved(self, vector: NDArray[np.float32]) -> ModelFile:
        """Return a model of the same shapes, with another packed vector."""
        return replace(self, vector=vector)

    def named(self) -> dict[str, NDArray[np.float32]]:
        """Return the tensors in the vector, by name, as views of it."""
        ends = np.cumsum([0, *(prod(shape) for shape in self.shapes)])
        parts = zip(self.names, self.shapes, pairwise(ends), strict=True)
        return {name: self.vector[start:end].reshape(shape) for name, shape, (start, end) in parts}

    def encode(self) -> bytes:
        """Return the canonical bytes of what training moves."""
        return encoding.encode(self.named())

    def encode_whole(self) -> bytes:
        """Return the canonical bytes of all tensors, which are those of an initial model."""
        return encoding.encode({**self.fixed, **self.named()}, further=True)


def fixed_model(vector: NDArray[np.float32], fixed: FixedPoint) -> IntArray:
    """Return trained coordinates float32[d] in fixed point, int64[d], of magnitude at most ``LARGEST``.

    They may be beyond the bound.

    Raises
    ------
    ContentUnreadableError
        If a coordinate is not finite, or too large for that.
    """
    require_readable(vector, fixed)
    # A power of two, so the product is exact; and a float32 is rounded to the same integer as its double.
    return fixed.rounded(vector)


def require_readable(vector: NDArray[np.float32], fixed: FixedPoint) -> None:
    """Raise ContentUnreadableError unless trained coordinates float32[d] have a value in a fixed-point format."""
    largest = magnitude(vector)
    if not largest * fixed.unit <= LARGEST:
        raise ContentUnreadableError(
            f"A number of the model is {largest:g}, which the task's fixed-point format cannot hold.",
            "Publish a model whose numbers are within the bound of the task.",
        )
