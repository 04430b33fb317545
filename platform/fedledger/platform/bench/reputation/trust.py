"""Reputations as a model has them: what it makes of verdicts, by the task's publisher and by others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.verdicts import Verdict


@dataclass
class LedgerTrust:
    """As without a model: the evidence that the ledger keeps of the task's publisher.

    Parameters
    ----------
    publisher
        The task's publisher; what others say is not looked at.
    """

    publisher: str
    _evidence: dict[str, Evidence] = field(default_factory=dict)

    def rate(self, publisher: str, verdicts: Mapping[str, Verdict]) -> None:
        """Take the verdicts of a round of some publisher, by name."""
        if publisher == self.publisher:
            for name, verdict in verdicts.items():
                self._evidence[name] = self._evidence.get(name, Evidence()).after(verdict)

    def reputations(self, names: Sequence[str]) -> list[int]:
        """Return what names are worth in a round that asks them, in ppm."""
        return [self._evidence.get(name, Evidence()).reputation for name in names]


Trust = LedgerTrust
def trust_of(model, publisher, recommenders):
    return LedgerTrust(publisher)
