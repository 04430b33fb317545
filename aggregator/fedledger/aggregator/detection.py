"""Detectors: which updates to refuse, from posted measurements and exact inner products.

A detector sees how an update changes the held-out loss, where it points, and what the ledger remembers of its
sender; never who intends what. Its thresholds compare an update with the others of its round, so one setting serves
early rounds, in which losses are large, and late ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.exact import Gram
from fedledger.protocol.parameters import build, real
from fedledger.protocol.registry import Registry
from fedledger.protocol.reputation import PPM
from fedledger.protocol.spec import Method
from fedledger.protocol.verdicts import Verdict

MAX_TRUST = 2.5
"""A good name is worth this much, not more: an attacker may earn one first."""
_ALIKE = 2.0**-40
"""Far more than what doubles lose of a squared distance, relative to the squares it is the difference of."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Measurement:
    """A measurement on the task's validation set.

    Parameters
    ----------
    loss
        Mean cross-entropy in micro-nats.
    correct
        Number of examples that are classified correctly.
    """

    loss: int
    correct: int


@dataclass(frozen=True)
class Evidences:
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
    """

    base: Measurement
    measured: Sequence[Measurement]
    reputations: Sequence[int]
    gram: Gram

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
        """Rise of the held-out loss by update i, in micro-nats."""
        return self.measured[i].loss - self.base.loss

    def trust(self, i: int) -> float:
        """Odds of reputation to its lack, at most ``MAX_TRUST``; 1 for a newcomer."""
        return min(MAX_TRUST, self.reputations[i] / max(1, PPM - self.reputations[i]))

    def harmless(self, i: int, factor: float) -> float:
        """Harm above which update i stands out, in micro-nats, never below 0.

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


class Detector(Protocol):
    """Flags updates; a frozen dataclass of its parameters."""

    verdict: Verdict

    def __call__(self, seen: Evidences) -> list[bool]:
        """Return one flag an update."""
        ...


DETECTORS: Registry[Callable[..., Detector]] = Registry("detector", "fedledger.detectors")


@DETECTORS.register("held_out@1")
@dataclass(frozen=True)
class HeldOut:
    """Flag an update that raises the held-out loss far more than the others do, and gains no accuracy.

    Parameters
    ----------
    factor
        How far, in median absolute deviations, for a newcomer; reputation scales it.
    """

    factor: float = 4.0
    verdict = Verdict.HELD_OUT

    def __post_init__(self) -> None:
        real("factor", self.factor, 0.0, above=True)

    def __call__(self, seen: Evidences) -> list[bool]:
        return [
            seen.harm(i) > seen.harmless(i, self.factor) and seen.measured[i].correct <= seen.base.correct
            for i in range(seen.count)
        ]


@DETECTORS.register("cosine@1")
@dataclass(frozen=True)
class Opposed:
    """Flag an update that points away from the robust centre and does harm.

    An honest participant with unusual data may point away from the others too; it is flagged only if its update
    also raises the held-out loss more than updates of the round do, by ``factor`` median absolute deviations.

    Parameters
    ----------
    threshold
        Cosine to the coordinate-wise median below which an update points away.
    factor
        How far, in median absolute deviations, for a newcomer; reputation scales it.
    """

    threshold: float = 0.0
    factor: float = 2.0
    verdict = Verdict.COSINE

    def __post_init__(self) -> None:
        real("factor", self.factor)
        if not -1 <= self.threshold <= 1:
            raise ConfigError(f"threshold is {self.threshold}, not a cosine.", "Give a number from -1 to 1.")

    def __call__(self, seen: Evidences) -> list[bool]:
        return [
            seen.harm(i) > seen.harmless(i, self.factor) and seen.cosine(i, seen.centre) < self.threshold
            for i in range(seen.count)
        ]


@DETECTORS.register("norm@1")
@dataclass(frozen=True)
class Norm:
    """Flag an update whose Euclidean norm is far from the median norm: no work, or an attempt to drown the others.

    Parameters
    ----------
    least, most
        Limits as multiples of the median norm of the round.
    """

    least: float = 0.05
    most: float = 10.0
    verdict = Verdict.NORM

    def __post_init__(self) -> None:
        real("least", self.least)
        real("most", self.most, 1.0)

    def __call__(self, seen: Evidences) -> list[bool]:
        norms = seen.norms[: seen.count].tolist()
        typical = median(norms)
        return [norm == 0 or not self.least * typical <= norm <= self.most * typical for norm in norms]


@DETECTORS.register("near_duplicate@1")
@dataclass(frozen=True)
class NearDuplicate:
    """Flag an update that repeats the last round's step or another update; of copies the first address stands.

    Nobody sees an update before it is committed, so two equal ones come from one hand, and paying one is enough.
    What counts as equal follows from how far apart the round's updates are (1 − cosine), since honest ones are
    close to each other where data are alike, and to the last step where training goes straight on.

    Parameters
    ----------
    closeness
        Share of the median distance, to the last step or between two updates, below which two count as one.
    """

    closeness: float = 0.25
    verdict = Verdict.DUPLICATE

    def __post_init__(self) -> None:
        if real("closeness", self.closeness) >= 1:
            raise ConfigError(f"closeness is {self.closeness}.", "Give a share below 1.")

    def __call__(self, seen: Evidences) -> list[bool]:
        n = seen.count
        apart = 1 - seen.cosines[:n, :n]
        back = 1 - seen.cosines[:n, seen.previous]
        pair = self.closeness * (_median(apart[np.tri(n, k=-1, dtype=bool)]) if n > 1 else 0.0)
        flagged = back < self.closeness * _median(back)
        close, alike = apart < pair, _perhaps_equal(seen)
        for i in np.flatnonzero(~flagged):
            stands = ~flagged[:i]
            others = np.flatnonzero(alike[i, :i] & stands).tolist()
            others += [seen.previous] if alike[i, seen.previous] else []
            flagged[i] = (close[i, :i] & stands).any() or _is_equal(seen, int(i), others)
        return [bool(flag) for flag in flagged]


def _perhaps_equal(seen: Evidences) -> NDArray[np.bool_]:
    """Return for each two rows whether they may be equal; False only where they are not."""
    squares = seen.products.diagonal()
    sums: Float64 = squares[:, None] + squares[None, :]
    alike: NDArray[np.bool_] = np.abs(sums - 2 * seen.products) <= _ALIKE * sums
    return alike


def _is_equal(seen: Evidences, i: int, others: Sequence[int]) -> bool:
    """Whether update i equals one of others in every coordinate."""
    gram = seen.gram
    # The squared distance of two rows, exactly; two zeros are no copies but no work, which is norm's business.
    return bool(gram[i, i] > 0) and any(gram[i, i] + gram[j, j] == 2 * gram[i, j] for j in others)


def detect(methods: Sequence[Method], seen: Evidences) -> list[Verdict]:
    """Return one verdict an update: accepted, or the reason of the first detector that flags it."""
    verdicts = [Verdict.ACCEPTED] * seen.count
    for method in methods:
        detector = build(DETECTORS, method.method, method.params)
        for i, flagged in enumerate(detector(seen) if seen.count else []):
            if flagged and verdicts[i] is Verdict.ACCEPTED:
                verdicts[i] = detector.verdict
    return verdicts


def _median(values: Float64) -> float:
    """Return what :func:`median` does, of float64[n]."""
    low, high = (len(values) - 1) // 2, len(values) // 2
    middle = np.partition(values, (low, high))[[low, high]].tolist()
    return float(middle[1]) if low == high else (middle[0] + middle[1]) / 2


def median(values: Sequence[float]) -> float:
    """Return the median; the mean of the middle two for an even number."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
