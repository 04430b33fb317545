"""What detectors and contribution scores look at: measurements, reputations and exact inner products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.arithmetic.exact import Gram
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.reputation import PPM

MAX_TRUST = 2.5
"""A good name is worth this much, not more: an attacker may earn one first."""


Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class RoundFeatures:
    """What detectors look at; all lists are in the order of the participants' addresses.

    Parameters
    ----------
    base
        Measurement of the round's base model.
    measured
        Measurement of base + update, one an update.
    reputations
        What the ledger held of each sender when the round was opened, in parts per million.
    gram
        Exact inner products of the n updates, followed by the robust centre (their coordinate-wise median) and the
        step of the last round: (n + 2) × (n + 2) integers.
    lower_is_better
        Whether a smaller score is better.
    """

    base: Measurement
    measured: Sequence[Measurement]
    reputations: Sequence[int]
    gram: Gram
    lower_is_better: bool = False

    @property
    def count(self) -> int:
        """Number of updates n."""
        return len(self.measured)

    @property
    def centre(self) -> int:
        """Row of the robust centre."""
        return self.count

    @property
    def previous(self) -> int:
        """Row of the last round's step."""
        return self.count + 1

    @property
    def without_centre(self) -> Gram:
        """The inner products of the updates, followed by the step of the last round."""
        rest = [*range(self.count), *range(self.previous, len(self.gram))]
        return self.gram[np.ix_(rest, rest)]

    @cached_property
    def products(self) -> Float64:
        """The inner products as the nearest doubles, float64[n + 2, n + 2]."""
        return self.gram.astype(np.float64)

    @cached_property
    def norms(self) -> Float64:
        """Euclidean norms of the rows, float64[n + 2]."""
        return np.sqrt(self.products.diagonal())

    @cached_property
    def cosines(self) -> Float64:
        """Cosines of the angles between all rows, float64[n + 2, n + 2]; 0 where one of two is zero."""
        scales = self.norms[:, None] * self.norms[None, :]
        return np.divide(self.products, scales, out=np.zeros_like(scales), where=scales > 0)

    def cosine(self, i: int, j: int) -> float:
        """Cosine of the angle between two rows; 0 if one of them is zero."""
        return float(self.cosines[i, j])

    def harm(self, i: int) -> int:
        """Rise of the held-out loss by update i, in millionths of its unit."""
        return self.measured[i].loss - self.base.loss

    @property
    def worths(self) -> list[int]:
        """What each update adds to the worth of the base: by margins if all have one, else by losses."""
        everything = (self.base, *self.measured)
        worths = [one.worth for one in everything]
        if any(one.margin is None for one in everything):
            worths = [-one.loss for one in everything]
        return [worth - worths[0] for worth in worths[1:]]

    def gains_score(self, i: int) -> bool:
        """Return whether update i betters the score."""
        return self.measured[i].scores_above(self.base, self.lower_is_better)

    def trust(self, i: int) -> float:
        """Odds of reputation to its lack, at most ``MAX_TRUST``; 1 for a newcomer."""
        return min(MAX_TRUST, self.reputations[i] / max(1, PPM - self.reputations[i]))

    def harmless(self, i: int, factor: float) -> float:
        """Harm above which update i stands out, in millionths of the loss's unit, never below 0.

        It is the round's median harm plus ``factor`` times the trust in the sender times the median absolute
        deviation, so that neither a minority of attackers nor the stage of training moves it far.
        """
        middle, spread = self._harms
        return max(0.0, middle + factor * self.trust(i) * spread)

    @cached_property
    def _harms(self) -> tuple[float, float]:
        """The median harm, and the median absolute deviation from it."""
        harms = [self.harm(j) for j in range(self.count)]
        middle = median(harms)
        return middle, median([abs(harm - middle) for harm in harms])


def median_of_array(values: Float64) -> float:
    """Return what :func:`median` does, of float64[n]."""
    low, high = (len(values) - 1) // 2, len(values) // 2
    middle = np.partition(values, (low, high))[[low, high]].tolist()
    return float(middle[1]) if low == high else (middle[0] + middle[1]) / 2


def median(values: Sequence[float]) -> float:
    """Return the median; the mean of the middle two for an even number."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
