"""Detectors: which updates to refuse, from posted measurements and exact inner products.

A detector sees how an update changes the held-out loss, where it points, and what is known of its sender; never who
intends what. Its thresholds compare an update with the others of its round, so one setting serves early rounds, in
which losses are large, and late ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.context.work_seen import WorkSeen
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry
from fedledger.protocol.records.report import ToldFinding
from fedledger.protocol.records.verdicts import Verdict


@dataclass(frozen=True)
class Finding:
    """Why an update stands out.

    Parameters
    ----------
    signal
        What was looked at, in a word or two.
    value, threshold
        What it was, and what it was compared with.
    excess
        How far it is beyond the threshold, for telling the worst; positive.
    """

    signal: str
    value: float
    threshold: float
    excess: float

    @property
    def told(self) -> ToldFinding:
        """The finding as a report tells it, in millionths."""
        return ToldFinding.of(self.signal, self.value, self.threshold)

    @classmethod
    def above(cls, signal: str, value: float, threshold: float) -> Finding | None:
        """Return a finding if the value is above the threshold."""
        if not value > threshold:
            return None
        return cls(signal, value, threshold, (value - threshold) / max(abs(threshold), 1.0))

    @classmethod
    def below(cls, signal: str, value: float, threshold: float) -> Finding | None:
        """Return a finding if the value is below the threshold."""
        if not value < threshold:
            return None
        return cls(signal, value, threshold, (threshold - value) / max(abs(threshold), 1.0))


Flags = Sequence[bool] | Sequence[Finding | None]


class Detector(Protocol):
    """Flags updates; a frozen dataclass of its parameters."""

    verdict: Verdict

    def __call__(self, context: StageContext) -> Flags:
        """Return for each update whether it stands out, or why."""
        ...


DETECTORS: Registry[Callable[..., Detector]] = Registry(kind_of("detection"))


@dataclass(frozen=True)
class Judged:
    """An update's verdict, and what it rests on where a detector says that."""

    verdict: Verdict
    finding: Finding | None = None


ACCEPTED = Judged(Verdict.ACCEPTED)
_CERTAIN = float("inf")


def detect(detectors: Sequence[Detector], contexts: Sequence[StageContext], count: int) -> list[Judged]:
    """Return how each update is judged: accepted, or refused for the reason of the first detector that flags it.

    Parameters
    ----------
    detectors, contexts
        The detectors in their order, and what each of them may know.
    count
        Number of updates.

    Raises
    ------
    ConfigError
        If a detector does not return one flag for each update.
    """
    judged = [ACCEPTED] * count
    for detector, context in zip(detectors, contexts, strict=True):
        flags = detector(context) if count else []
        if len(flags) != count:
            raise ConfigError(
                f"The detector {type(detector).__name__} returned {len(flags)} flags for {count} updates.",
                "Have it return one for each, or choose another detector.",
            )
        for i, flag in enumerate(flags):
            if flag and judged[i] is ACCEPTED:
                judged[i] = Judged(detector.verdict, flag if isinstance(flag, Finding) else None)
    return judged


def worst(judged: Sequence[Judged], most: int) -> list[Judged]:
    """Return the same with at most so many refusals by doubtful signs, the worst; of equally bad ones all or none.

    What is certain, such as an update that holds nothing new, is refused in any case.
    """
    doubtful = [_excess(one) for one in judged if one.verdict.refused and _excess(one) < _CERTAIN]
    if len(doubtful) <= most:
        return list(judged)
    limit = sorted(doubtful, reverse=True)[most]
    return [one if one.verdict.refused and _excess(one) > limit else ACCEPTED for one in judged]


def work_of(context: StageContext, method: str) -> WorkSeen:
    """Return what the round's evidence shows.

    Raises
    ------
    ConfigError
        If the task names no evidence, which ``method`` needs.
    """
    if context.work is None:
        raise ConfigError(f"{method} needs to know of everybody's work.", 'Give evidence = { method = "work@1" }.')
    return context.work


def _excess(judged: Judged) -> float:
    # A detector that gives no reason cannot be compared.
    return 0.0 if judged.finding is None else judged.finding.excess
