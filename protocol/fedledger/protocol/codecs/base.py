"""What a codec is: one vector of an update in, the tensor that travels out, and back to the exact layer's integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import FixedPoint, Float32Array, IntArray
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry

Tensor = NDArray[np.generic]
"""What travels: float32, int64 or uint8."""


class Codec(Protocol):
    """Writes and reads a vector; a frozen dataclass of its parameters.

    A decoder reads a stranger's bytes. It is exact, takes time and memory in proportion to the vector's length and to
    the bytes that there are, and accepts one encoding of a value only.
    """

    def check(self, length: int) -> None:
        """Raise ConfigError if the codec does not suit a vector of so many coordinates."""
        ...

    def encode(self, values: Float32Array, fixed: FixedPoint) -> Tensor:
        """Return the tensor that stands for float32[n].

        A vector with a coordinate that is not finite has a tensor as well, which the decoder refuses as not finite.
        """
        ...

    def decode(self, sent: Tensor, length: int, fixed: FixedPoint) -> IntArray:
        """Return int64[n] in fixed point, each coordinate within the format's bound.

        Parameters
        ----------
        sent
            A stranger's tensor.
        length
            Number of coordinates n.
        fixed
            The task's fixed-point format.

        Raises
        ------
        UpdateRefusedError
            ``wrong_shape``, ``malformed``, ``not_finite`` or ``out_of_range``.
        """
        ...

    def largest(self, length: int) -> Tensor:
        """Return a tensor of zeros that is as large as the largest that stands for a vector of so many coordinates."""
        ...


CODECS: Registry[Callable[..., Codec]] = Registry(kind_of("payload"))
