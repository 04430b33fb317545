"""Products of float32 that are exact: within bounds that are proved at run time, and else by doubles.

Operands are multiples of powers of two, so every product and every partial sum is a multiple of one, too. As long as
none exceeds what the type holds exactly, all orders of additions, with or without fused multiplications, give the same
bits. Everything else is element by element: + − × ÷ and rounding, which IEEE 754 defines.
"""

from __future__ import annotations

import math
from functools import cache

import torch

from fedledger.learning.replayable.grids import exponent, rounder
from fedledger.protocol.errors import ConfigError

Tensor = torch.Tensor
_mm = torch.mm

WEIGHT_BITS, ACTIVATION_BITS, OUTPUT_BITS, FINEST = 10, 8, 30, 40
WEIGHT_LIMIT = 2.0**11
ROOM = 2.0 ** (24 - WEIGHT_BITS - ACTIVATION_BITS)
"""What a partial sum of weights times activations may be in float32."""
GRADIENT_LIMIT = 2.0**64
"""Sums of gradients from which on training has diverged, long before float32 overflows."""
_OUTPUT = rounder(OUTPUT_BITS)
_ROUNDED = 2.0**22
"""Units of a grid below which float32 is rounded to it by two additions."""


class DivergedError(Exception):
    """Weights or gradients are too large for exact products."""


class RowBound:
    """A bound on the Euclidean norms of a matrix's rows, which grows as the matrix moves.

    It need not be the same everywhere: it only decides how a product is computed, not what it is.

    Parameters
    ----------
    columns
        Length of a row.
    """

    _SLACK = 1 + 1e-5

    def __init__(self, columns: int) -> None:
        # Rounding to the weights' grid moves a number by at most half of its unit.
        self._rounding: float = columns**0.5 * 2.0 ** -(WEIGHT_BITS + 1)
        self._norm = self._speed = 0.0
        self._known = False

    def reset(self) -> None:
        """Forget it, as the matrix is another one."""
        self._known, self._speed = False, 0.0

    def forget(self) -> None:
        """Take notice that the matrix moved by nobody knows how much."""
        self._known = False

    def moved(self, momentum: float, step: float) -> None:
        """Take notice that the matrix moved by ``momentum`` times its last move, and each row by ``step`` besides."""
        self._speed = (self._speed * momentum + step) * self._SLACK
        self._norm = (self._norm + self._speed) * self._SLACK

    def allows(self, operand: Tensor, column: float, room: float) -> bool:
        """Return whether rows of the rounded matrix times columns of a norm are below ``room``."""
        if self._known and self._is_within(column, room):
            return True
        self._norm = float(torch.linalg.vector_norm(operand, dim=1).max()) * 1.01 + self._rounding
        self._known = True
        return self._is_within(column, room)

    def _is_within(self, column: float, room: float) -> bool:
        row = self._norm + self._rounding
        return row * column < room and row < WEIGHT_LIMIT / 2


class Singles:
    """Products of float32 where bounds prove them exact, and of doubles elsewhere, with the same bits.

    Weights are float32; products take them as multiples of 2^−10. Activations are multiples of 2^−8 within ±16. A
    partial sum of a forward pass is at most ‖row‖₂ · ‖column‖₂ by Cauchy and Schwarz; below 2^24 units of 2^−18 it is
    exact. Else doubles are, while no weight is beyond ±2^11 and no sum has more than 2^20 terms.

    Gradients of the network's outputs are rounded to multiples of 2^−30, and each layer's to a grid 2^−e of its own:
    the finest on which the sums of their magnitudes prove both products. Those sums are exact in double precision, so
    that e is the same everywhere.

    Parameters
    ----------
    is_short
        Whether float32 is used at all; else all products are those of doubles.
    """

    def __init__(self, is_short: bool = True) -> None:
        self.is_short = is_short
        if is_short:
            require_exact_float32()

    def outputs(self, weight: Tensor, seen: Tensor, rows: RowBound, highest: float) -> Tensor:
        """Return weight [o, k] times seen [k, m].

        Parameters
        ----------
        rows
            Of the weights.
        highest
            Bounds the magnitudes of what is seen.

        Raises
        ------
        DivergedError
            If neither type holds the product.
        """
        if self.is_short:
            inputs = weight.shape[1]
            # Norms are themselves rounded: by a share of at most 2^−24 a term.
            room = ROOM / (1 + inputs * 2.0**-20)
            # Most often the first bound will do, and saves what the second one takes.
            if rows.allows(weight, highest * inputs**0.5, room):
                return _mm(weight, seen)
            if rows.allows(weight, math.sqrt(torch.square(seen).sum(0).max().item()), room):
                return _mm(weight, seen)
        if not magnitude(weight) <= WEIGHT_LIMIT:
            raise DivergedError
        return _mm(weight.double(), seen.double())

    def gridded(self, delta: Tensor, highest: float, bits: int, weight: Tensor | None) -> tuple[Tensor, float]:
        """Return gradients float32[o, ...] on a grid on which the products with them are exact, and their largest sum.

        Parameters
        ----------
        delta
            Gradients of a layer's outputs; those of the network's are float64 within ±1 and on no grid yet.
        highest, bits
            Largest magnitude of what the layer saw, which are multiples of 2^−``bits``.
        weight
            Its weights, if gradients of its inputs are wanted.

        Raises
        ------
        DivergedError
            If the gradients are beyond all bounds.
        """
        if delta.dtype == torch.float64:
            delta = delta.add(_OUTPUT).sub_(_OUTPUT)
        sizes = delta.abs().double()
        rows = sizes.flatten(1)
        largest = rows.sum(1).max().item()
        if not largest < GRADIENT_LIMIT:
            raise DivergedError
        finest = FINEST
        if highest:
            finest = exponent(largest, 2.0 ** (24 - bits) / highest, rows.shape[1], finest)
        if weight is not None:
            most = magnitude(weight)
            total = sizes.sum(0).max().item()
            if most:
                finest = exponent(total, 2.0 ** (24 - WEIGHT_BITS) / most, delta.shape[0], finest)
        if math.ldexp(largest, finest) >= _ROUNDED:
            # One gradient may then have too many units for its own type, as where all that is seen is tiny.
            delta = delta.double()
        grid = rounder(finest, delta.dtype)
        return delta.add_(grid).sub_(grid).to(torch.float32), largest

    def multiplied(self, left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
        """Return an exact product of two matrices of which one comes from :meth:`gridded`."""
        if self.is_short:
            return _mm(left, right) if out is None else _mm(left, right, out=out)
        product = _mm(left.double(), right.double()).float()
        return product if out is None else out.copy_(product)


def magnitude(values: Tensor) -> float:
    """Return the largest magnitude; NaN if one is."""
    # NumPy's reductions take half of the time of torch's, and those a third of what torch.aminmax takes.
    numbers = values.numpy()
    return max(-float(numbers.min()), float(numbers.max()))


@cache
def require_exact_float32() -> None:
    """Raise ConfigError if float32 products are none, as where a library was told to compute them with fewer bits."""
    whole = torch.arange(64 * 64).view(64, 64) * 2_654_435_761 % 509 - 254
    product = torch.mm(whole.float(), whole.float())
    if not torch.equal(product.long(), whole @ whole):
        raise ConfigError(
            "Products of float32 have fewer than 24 bits in this process.",
            'Leave torch.set_float32_matmul_precision at "highest" and DNNL_DEFAULT_FPMATH_MODE unset.',
        )
