"""Detectors: which updates to refuse, from posted measurements and exact inner products.

A detector sees how an update changes the held-out loss, where it points, and what the ledger remembers of its
sender; never who intends what. Its thresholds compare an update with the others of its round, so one setting serves
early rounds, in which losses are large, and late ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.protocol.methods.catalogue import kind_of
from fedledger.protocol.methods.registry import Registry
from fedledger.protocol.records.verdicts import Verdict


class Detector(Protocol):
    """Flags updates; a frozen dataclass of its parameters."""

    verdict: Verdict

    def __call__(self, context: StageContext) -> list[bool]:
        """Return one flag per update."""
        ...


DETECTORS: Registry[Callable[..., Detector]] = Registry(kind_of("detection"))


def detect(detectors: Sequence[Detector], contexts: Sequence[StageContext], count: int) -> list[Verdict]:
    """Return one verdict per update: accepted, or the reason of the first detector that flags it.

    Parameters
    ----------
    detectors, contexts
        The detectors in their order, and what each of them may know.
    count
        Number of updates.
    """
    verdicts = [Verdict.ACCEPTED] * count
    for detector, context in zip(detectors, contexts, strict=True):
        for i, flagged in enumerate(detector(context) if count else []):
            if flagged and verdicts[i] is Verdict.ACCEPTED:
                verdicts[i] = detector.verdict
    return verdicts
