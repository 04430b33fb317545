"""What an aggregation rule is: coordinate-wise (columns to columns) or linear (Gram matrix to weights).

The rows are the updates of the round in the order of their participants' addresses, all with a weight above
0. Integers pass exactly. Doubles appear as scalars or element by element with + − × ÷ √ alone, in index
order, and end as integers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import ClassVar

import numpy as np

from fedledger.aggregator.context.least_rows import NeedsRows
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.mixings.mixture import Mixture
from fedledger.protocol.arithmetic.division import BITS, MASK
from fedledger.protocol.arithmetic.exact import Float64Array, Gram, IntArray, OutOfRangeError, divide_round, within
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry

Diagnostics = dict[str, int | list[int]]


ONE = 1 << 30
"""The integer that stands for a coefficient of 1; 2^-30 times the bound is below a model's precision."""
MAX_WEIGHT = 1 << 20
"""The largest weight of values that are summed in two limbs."""


@dataclass(frozen=True)
class Combination:
    """The linear combination of rows that a linear rule returns.

    Parameters
    ----------
    coefficients
        One integer a row of the Gram matrix.
    denominator
        What their sum of products is divided by.
    diagnostics
        What is worth knowing about how it was found.
    plus
        What is added to the quotient, int64[d]; nothing if None.
    """

    coefficients: Sequence[int]
    denominator: int
    diagnostics: Mapping[str, int | list[int]] = field(default_factory=dict)
    plus: IntArray | None = None


@dataclass(frozen=True)
class RuleContext:
    """What a rule may know of the rows that it aggregates.

    Parameters
    ----------
    weights
        Positive weights of the rows.
    unit
        The integer that stands for a coordinate of 1.
    gram
        Exact inner products of the rows, followed by the previous round's aggregate if the rule needs that; empty if it
        does not need inner products.
    rows
        The rows' places among the updates of the round.
    stage
        What is known of the round: see :class:`~fedledger.aggregator.context.stage_context.StageContext`; None where
        vectors are aggregated outside of a round.
    by_value
        Whether the rows are values and no steps, so that only weights with a sum of 1 make sense.
    dimension
        Length d of a row.
    mixture
        How the rows were mixed of the round's updates at the places ``rows``, if they were.
    """

    weights: Sequence[int]
    unit: int
    gram: Gram
    rows: Sequence[int] = ()
    stage: StageContext | None = None
    by_value: bool = False
    dimension: int = 0
    mixture: Mixture | None = None

    @property
    def round(self) -> StageContext:
        """What is known of the round.

        Raises
        ------
        ConfigError
            If the rows are not those of a round.
        """
        if self.stage is None:
            raise ConfigError("This aggregation rule works on a round's updates only.", "Choose another rule.")
        return self.stage


class LinearRule(NeedsRows, ABC):
    """A rule whose result is a combination of the rows."""

    needs_gram: ClassVar[bool] = True
    """Whether the rule looks at the Gram matrix; it is empty otherwise."""
    needs_previous: ClassVar[bool] = False
    """Whether the Gram matrix has a last row and column for the previous round's aggregate."""
    needs_trusted: ClassVar[bool] = False
    """Whether the aggregator has to provide an update that it trusts."""
    needs_updates: ClassVar[bool] = False
    """Whether there has to be a row for each update, so that no mixing may make fewer."""
    needs_start_losses: ClassVar[bool] = False
    """Whether the rule rests on what participants claim of their own losses."""

    @abstractmethod
    def __call__(self, context: RuleContext) -> Combination:
        """Return the combination."""


class CoordinateRule(NeedsRows, ABC):
    """A rule that works on each coordinate by itself, perhaps after a first stage that chooses rows."""

    needs_gram: ClassVar[bool] = False
    """Whether the first stage looks at the Gram matrix."""
    narrow: ClassVar[bool] = False
    """Whether the rule takes blocks of int32, too, and adds them up in int64."""
    needs_trusted: ClassVar[bool] = False
    """Whether the aggregator has to provide an update that it trusts."""

    def first_stage(self, context: RuleContext) -> tuple[Sequence[int] | None, CoordinateRule]:
        """Return the rows that go on to the second stage, ascending (None: all), and the rule of that stage."""
        return None, self

    @abstractmethod
    def __call__(self, block: IntArray, weights: Sequence[int]) -> tuple[IntArray, int]:
        """Return numerators int64[d'] and their common denominator for columns int64[n, d'].

        The values of a block stay below 2^62 / n in magnitude, so the sum of a column fits. ``weights`` are those of
        the n rows.
        """

    def diagnostics(self, n: int) -> Diagnostics:
        """Return what is worth knowing about the rule on n rows."""
        return {}


Rule = LinearRule | CoordinateRule


RULES: Registry[Callable[..., Rule]] = Registry(kind_of("aggregation"))


def are_equal(weights: Sequence[int]) -> bool:
    """Return whether all weights are the same, so that a weighted rule is the one without weights."""
    return min(weights) == max(weights)


def summable(weights: Sequence[int]) -> list[int]:
    """Return weights in lowest terms, by which values can be summed in two limbs.

    Raises
    ------
    OutOfRangeError
        If one is above 2^20.
    """
    shared = gcd(*weights)
    reduced = [weight // shared for weight in weights]
    if max(reduced) > MAX_WEIGHT:
        raise OutOfRangeError("The weights of a sum are too large.", "Scale the weights down.")
    return reduced


def sorted_by_value(block: IntArray, weights: Sequence[int]) -> tuple[IntArray, IntArray]:
    """Return the values of every column of [n, d'] in ascending order, and the weight up to each, both int64[n, d'].

    The block may be of int32. Equal values keep the order of their rows.
    """
    own, bits = np.array(weights, np.int64), (len(block) - 1).bit_length()
    block = block.astype(np.int64, copy=False)
    if within(block, 1 << (62 - bits)):
        # Where a value and its row fit in one integer, a sort of those takes a fifth of the time.
        columns = np.ascontiguousarray((block << bits | np.arange(len(block))[:, None]).T)
        columns.sort(axis=1)
        order = columns & ((1 << bits) - 1)
        columns >>= bits
        return columns.T, np.cumsum(own[order], axis=1).T
    order = np.argsort(block, axis=0, kind="stable")
    values: IntArray = np.take_along_axis(block, order, axis=0)
    upto: IntArray = np.cumsum(own[order], axis=0)
    return values, upto


def mean_by_weight(values: IntArray, weights: IntArray, total: int | IntArray) -> IntArray:
    """Return Σ_i weights[i] · values[i] / ``total`` of int64[n, d'], rounded once; the weights of a column sum to that.

    Weights, int64[n, 1] or int64[n, d'], are at most 2^20, and rows at most 2^12, so either sum of limbs fits in 62
    bits. The total is one integer or one for each column, int64[d'].
    """
    upper, lower = weighted_limbs(values, weights)
    quotient, rest = np.divmod(upper, total)
    rest = (rest << BITS) + lower
    if not isinstance(total, np.ndarray):
        return (quotient << BITS) + divide_round(rest, total)
    whole, rest = np.divmod(rest, total)
    is_up = (2 * rest > total) | ((2 * rest == total) & (whole & 1 == 1))
    mean: IntArray = (quotient << BITS) + whole + is_up
    return mean


def weighted_limbs(values: IntArray, weights: IntArray) -> tuple[IntArray, IntArray]:
    """Return two integers for each column, of which upper · 2^21 + lower is Σ_i weights[i] · values[i] of int64[n, d'].

    Values and weights are bounded as those of :func:`mean_by_weight`.
    """
    low = values & MASK
    return (weights * (values >> BITS)).sum(axis=0), (weights * low).sum(axis=0)


def shares(parts: Sequence[int]) -> Combination:
    """Return the combination whose coefficients are in proportion to whole numbers of at least 0, of any size.

    They are rounded down to parts of 2^-40 of the whole; zeros if all are 0.
    """
    total = max(1, sum(parts))
    coefficients = [(part << 40) // total for part in parts]
    return Combination(coefficients, max(1, sum(coefficients)))


def distances_to(squared: Float64Array, affine: Sequence[float]) -> list[float]:
    """Return the distances of all rows to Σ affine[j] · row[j], where the coefficients sum to 1.

    ‖x_i − v‖² = Σ_j a_j D_ij − ½ Σ_jk a_j a_k D_jk: translation cannot spoil it, unlike inner products.
    """
    toward, product = np.zeros(len(affine)), np.empty(len(affine))
    for coefficient, column in zip(affine, squared, strict=True):
        np.multiply(column, coefficient, out=product)
        toward += product
    spread = 0.0
    for coefficient, value in zip(affine, toward.tolist(), strict=True):
        spread += coefficient * value
    return [float(d) for d in np.sqrt(np.maximum(toward - spread / 2, 0.0))]


def rounded(affine: Sequence[float], one: int = ONE, /, **diagnostics: int | list[int]) -> Combination:
    """Return doubles that sum to 1 as integers, ``one`` for 1, that sum exactly to their denominator."""
    coefficients = [round(a * one) for a in affine]
    return Combination(coefficients, sum(coefficients), diagnostics)
