"""Detectors: which updates to refuse, from posted measurements and exact inner products.

A detector sees how an update changes the held-out loss, where it points, and what the ledger remembers of its
sender; never who intends what. Its thresholds compare an update with the others of its round, so one setting serves
early rounds, in which losses are large, and late ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Protocol

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.parameters import build, real
from fedledger.protocol.registry import Registry
from fedledger.protocol.reputation import PPM
from fedledger.protocol.spec import Method
from fedledger.protocol.verdicts import Verdict

MAX_TRUST = 2.5
"""A good name is worth this much, not more: an attacker may earn one first."""


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
    gram: Sequence[Sequence[int]]

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

    def cosine(self, i: int, j: int) -> float:
        """Cosine of the angle between two rows; 0 if one of them is zero."""
        norms = sqrt(self.gram[i][i]) * sqrt(self.gram[j][j])
        return self.gram[i][j] / norms if norms > 0 else 0.0

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
        harms = [self.harm(j) for j in range(self.count)]
        middle = median(harms)
        spread = median([abs(harm - middle) for harm in harms])
        return max(0.0, middle + factor * self.trust(i) * spread)


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
        norms = [sqrt(seen.gram[i][i]) for i in range(seen.count)]
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
        apart = [[1 - seen.cosine(i, j) for j in range(n)] for i in range(n)]
        back = [1 - seen.cosine(i, seen.previous) for i in range(n)]
        pair = self.closeness * median([apart[i][j] for i in range(n) for j in range(i)] or [0.0])
        repeat = self.closeness * median(back)
        flags: list[bool] = []
        for i in range(n):
            copied = any(apart[i][j] < pair for j in range(i) if not flags[j])
            flags.append(copied or back[i] < repeat or _identical(seen, i, flags))
        return flags


def _identical(seen: Evidences, i: int, flags: Sequence[bool]) -> bool:
    """Whether update i equals an earlier one that stands, or the last step, in every coordinate."""
    others = [j for j in range(i) if not flags[j]] + [seen.previous]
    gram = seen.gram
    # The squared distance of two rows, exactly; two zeros are no copies but no work, which is norm's business.
    return gram[i][i] > 0 and any(gram[i][i] + gram[j][j] == 2 * gram[i][j] for j in others)


def detect(methods: Sequence[Method], seen: Evidences) -> list[Verdict]:
    """Return one verdict an update: accepted, or the reason of the first detector that flags it."""
    verdicts = [Verdict.ACCEPTED] * seen.count
    for method in methods:
        detector = build(DETECTORS, method.method, method.params)
        for i, flagged in enumerate(detector(seen) if seen.count else []):
            if flagged and verdicts[i] is Verdict.ACCEPTED:
                verdicts[i] = detector.verdict
    return verdicts


def median(values: Sequence[float]) -> float:
    """Return the median; the mean of the middle two for an even number."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
