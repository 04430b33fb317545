"""Detectors: which updates to refuse, from posted measurements and exact inner products.

A detector sees how an update changes the held-out loss, where it points, and what the ledger remembers of its
sender; never who intends what. Its thresholds compare an update with the others of its round, so one setting serves
early rounds, in which losses are large, and late ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fedledger.aggregator.context.round_features import RoundFeatures
from fedledger.protocol.methods.catalogue import Method, kind_of
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.methods.registry import Registry
from fedledger.protocol.records.verdicts import Verdict


class Detector(Protocol):
    """Flags updates; a frozen dataclass of its parameters."""

    verdict: Verdict

    def __call__(self, seen: RoundFeatures) -> list[bool]:
        """Return one flag an update."""
        ...


DETECTORS: Registry[Callable[..., Detector]] = Registry(kind_of("detection"))


def detect(methods: Sequence[Method], seen: RoundFeatures) -> list[Verdict]:
    """Return one verdict an update: accepted, or the reason of the first detector that flags it."""
    verdicts = [Verdict.ACCEPTED] * seen.count
    for method in methods:
        detector = build(DETECTORS, method.method, method.params)
        for i, flagged in enumerate(detector(seen) if seen.count else []):
            if flagged and verdicts[i] is Verdict.ACCEPTED:
                verdicts[i] = detector.verdict
    return verdicts
