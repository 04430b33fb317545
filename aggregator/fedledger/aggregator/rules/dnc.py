"""Divide and conquer (Shejwalkar and Houmansadr 2021, https://www.ndss-symposium.org/ndss-paper/manipulating-the-byzantine-optimizing-model-poisoning-attacks-and-defenses-for-federated-learning/)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedledger.aggregator.context.columns import exact_products
from fedledger.aggregator.context.geometry import tolerated
from fedledger.aggregator.context.work import MAX_PRODUCTS, require_work
from fedledger.aggregator.rules.base import RULES, Combination, LinearRule, RuleContext
from fedledger.protocol.arithmetic.exact import Float64Array, Gram
from fedledger.protocol.methods.parameters import Checked, Real, Whole

STEPS = 100
"""Most steps of the power iteration."""
OVERHEAD = 1000
"""What a pair of rows takes besides the products of their coordinates, in products."""
SETTLED = 1e-12
"""It ends once no component changes by more."""
LARGEST = 1 << 20
"""Largest common denominator of the parts of rows that tie; finer ones are rounded to it."""


@RULES.register("dnc@1")
@dataclass(frozen=True)
class DivideAndConquer(Checked, LinearRule):
    """The plain mean of the rows that are not outliers in any of several random subsets of the coordinates.

    In each, the rows are centred, and the score of a row is its squared projection on the first principal direction;
    the ``filtering`` · f rows of the highest scores, the later address if equal, are outliers. If every row is an
    outlier somewhere, those that are in the fewest subsets are averaged. The direction comes from exact inner products
    by power iteration in double precision, in the order of the rows.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; lowered to what n > 2f allows.
    iterations
        Number of random subsets.
    coordinates
        Coordinates in each subset; all if there are no more.
    filtering
        Outliers per hostile update.
    """

    f: Annotated[int, Whole(0, 4096)]
    iterations: Annotated[int, Whole(1, 100)] = 1
    coordinates: Annotated[int, Whole(1, 1_000_000)] = 10_000
    filtering: Annotated[float, Real(0, 10, above=True)] = 1.0
    needs_gram = False
    needs_updates: ClassVar[bool] = True

    def require_work(self, rows: int, dimension: int) -> None:
        """Raise ConfigError if the products of so many rows are too many."""
        products = self.iterations * rows * rows * (min(self.coordinates, dimension) + OVERHEAD)
        require_work(RULES.key_of(self), products, MAX_PRODUCTS)

    def __call__(self, context: RuleContext) -> Combination:
        n = len(context.rows)
        flags = [0] * n
        for scores in self._scored(context):
            for i in sorted(range(n), key=lambda i: (scores[i], i))[n - self._outliers(n) :]:
                flags[i] += 1
        least = min(flags)
        selected = [i for i in range(n) if flags[i] == least]
        return Combination([int(i in selected) for i in range(n)], len(selected), {"selected": selected})

    def _outliers(self, n: int) -> int:
        """Return how many of n rows are outliers in a subset."""
        return min(round(self.filtering * tolerated(self.f, n)), n - 1)

    def _scored(self, context: RuleContext) -> Iterator[list[float]]:
        """Yield the rows' scores in each random subset."""
        known, n = context.round, len(context.rows)
        d, draws = known.updates.shape[1], known.draws()
        self.require_work(n, d)
        for _ in range(self.iterations):
            chosen = sorted(draws.sample(range(d), self.coordinates)) if self.coordinates < d else slice(None)
            rows = [known.updates[place][chosen] for place in context.rows]
            products = exact_products(rows)
            if context.mixture is not None and not self.needs_updates:
                products = context.mixture.gram(products)
            yield _scores(_centred(products))


@RULES.register("dnc@2")
@dataclass(frozen=True)
class StrictDivideAndConquer(DivideAndConquer):
    """The weighted mean of the rows that are not outliers in any of several random subsets of the coordinates.

    In each, the rows are centred without weights, so that no weight moves the centre that tells outliers, and the score
    of a row is its squared projection on the first principal direction; the ``filtering`` · f rows of the highest
    scores are outliers. Rows that tie for the last places share them: each counts with the same part of its weight, the
    least one of all subsets. If every row is an outlier somewhere, those that are in the fewest subsets are averaged.
    Rows are as the task's mixing makes them. f is never lowered: a round needs n > 2f rows, and more than there are
    outliers.

    Parameters
    ----------
    f
        Number of hostile updates to tolerate; a round needs 2f + 1 updates that count.
    iterations
        Number of random subsets.
    coordinates
        Coordinates in each subset; all if there are no more.
    filtering
        Outliers per hostile update.
    """

    needs_updates: ClassVar[bool] = False

    @property
    def least_rows(self) -> int:
        """2f + 1, or one more than the outliers."""
        return max(2 * self.f, round(self.filtering * self.f)) + 1

    def __call__(self, context: RuleContext) -> Combination:
        n = len(context.weights)
        parts = [_parts(scores, n - self._outliers(n)) for scores in self._scored(context)]
        kept = [min(row) for row in zip(*parts, strict=True)]
        if not any(kept):
            sums = [sum(row) for row in zip(*parts, strict=True)]
            kept = [Fraction(total == max(sums)) for total in sums]
        one = min(lcm(*(part.denominator for part in kept)), LARGEST)
        coefficients = [weight * round(part * one) for weight, part in zip(context.weights, kept, strict=True)]
        return Combination(coefficients, sum(coefficients), {"selected": [i for i in range(n) if kept[i]]})


def _parts(scores: Sequence[float], most: int) -> list[Fraction]:
    """Return which part of each row is among the ``most`` of the least scores, where ties share the last places."""
    last = sorted(scores)[most - 1]
    shared = Fraction(most - sum(score < last for score in scores), scores.count(last))
    return [Fraction(score < last) or shared * (score == last) for score in scores]


def _centred(gram: Gram) -> Float64Array:
    """Return the inner products of rows minus their mean, times n², as the nearest doubles, from exact ones."""
    n = len(gram)
    products: NDArray[Any] = gram.astype(object)
    toward = products.sum(axis=1)
    centred: NDArray[Any] = n * n * products - n * toward[:, None] - n * toward[None, :] + toward.sum()
    return centred.astype(np.float64)


def _scores(centred: Float64Array) -> list[float]:
    """Return the squared components of the first eigenvector of a Gram matrix, to which scores are proportional."""
    start = max(range(len(centred)), key=lambda i: (float(centred[i, i]), -i))
    if centred[start, start] <= 0:
        return [0.0] * len(centred)
    vector: Float64Array = centred[start] / _length(centred[start])
    for _ in range(STEPS):
        following = np.zeros(len(centred))
        for component, column in zip(vector.tolist(), centred, strict=True):
            following = following + component * column
        following = following / _length(following)
        change = float(np.abs(following - vector).max())
        vector = following
        if change <= SETTLED:
            break
    return [component * component for component in vector.tolist()]


def _length(vector: Float64Array) -> float:
    """Return the Euclidean length, summed in the order of the components after scaling by the largest."""
    largest = float(np.abs(vector).max())
    total = 0.0
    for component in (vector / largest).tolist():
        total += component * component
    return largest * float(np.sqrt(total))
