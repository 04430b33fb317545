"""Updates that were not accepted, and why, as a stranger's reports tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedledger.protocol.encoding import canonical, strict
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ContentUnreadableError
from fedledger.protocol.records.measurement import LOSS_CAP, MAX_SCORE
from fedledger.protocol.records.report import BASE, ToldFinding
from fedledger.storage.base import ContentStore

MAX_DETAIL = 4096
"""Characters of a stranger's text."""
_SCORES = {"correct": "right answers", "score": "score"}


@dataclass(frozen=True)
class Refusal:
    """An update that was not accepted.

    Parameters
    ----------
    round, address
        Which.
    reason
        The verdict in words.
    detail
        Why, in words: what the report says, what the verdict rests on, and what the update did to the held-out loss.
    claimed
        How many examples its sender claims, in tasks that judge; None where nobody knows.
    signal, value, threshold
        What the verdict rests on, where a detector says that.
    """

    round: int
    address: str
    reason: str
    detail: str
    claimed: int | None = None
    signal: str | None = None
    value: float | None = None
    threshold: float | None = None


class ReportedReasons:
    """What a round's report says of the updates; of what cannot be read, nothing.

    Parameters
    ----------
    document
        The report, of which nothing is taken for granted.
    """

    def __init__(self, document: object) -> None:
        whole = document if isinstance(document, dict) else {}
        measurements, rows = whole.get("measurements"), whole.get("updates")
        self._base = measurements.get(BASE) if isinstance(measurements, dict) else None
        self._rows: dict[str, Mapping[str, Any]] = {
            row["participant"]: row
            for row in (rows if isinstance(rows, list) else [])
            if isinstance(row, dict) and isinstance(row.get("participant"), str)
        }

    @classmethod
    def read(cls, store: ContentStore, report: ContentRef) -> ReportedReasons:
        """Read a report.

        Raises
        ------
        StoreError
            If it is missing from the store.
        """
        try:
            return cls(canonical.decode(store.get(report, canonical.MAX_DOCUMENT_BYTES)))
        except (ContentUnreadableError, ValueError):
            return cls(None)

    def told(self, address: str) -> str:
        """Return what is said of an update: what is wrong with its bytes, or what a refusal of it rests on."""
        row = self._rows.get(address, {})
        detail, finding = row.get("detail"), ToldFinding.read(row.get("finding"))
        if isinstance(detail, str) and detail and strict.is_text(detail):
            return detail[:MAX_DETAIL]
        return "" if finding is None else str(finding)

    def refusal(self, index: int, address: str, reason: str) -> Refusal:
        """Return why the ledger's verdict on an update is what it is."""
        row = self._rows.get(address, {})
        told = self.told(address), self._measured(row.get("measurement"))
        detail, claimed = "; ".join(part for part in told if part), _whole(row.get("claimed"), MAX_SCORE)
        finding = ToldFinding.read(row.get("finding"))
        if finding is None:
            return Refusal(index, address, reason, detail, claimed)
        value, threshold = (number / 1e6 for number in (finding.value, finding.threshold))
        return Refusal(index, address, reason, detail, claimed, finding.signal, value, threshold)

    def _measured(self, update: object) -> str:
        """Say what a step along an update did to the validation examples."""
        if not isinstance(self._base, dict) or not isinstance(update, dict):
            return ""
        losses = [_whole(measured.get("loss"), LOSS_CAP) for measured in (self._base, update)]
        key = "correct" if "correct" in self._base else "score"
        scores = [_whole(measured.get(key), MAX_SCORE) for measured in (self._base, update)]
        if None in losses or None in scores:
            return ""
        before, after = (f"{(loss or 0) / 1e6:.4f}" for loss in losses)
        return f"held-out loss {before} to {after}, {_SCORES[key]} {scores[0]} to {scores[1]}"


def _whole(value: object, most: int) -> int | None:
    try:
        return strict.whole(value, 0, most)
    except strict.SpellingError:
        return None
