"""What updates were worth, as a stranger's reports tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedledger.protocol.encoding import canonical, strict
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ContentUnreadableError
from fedledger.storage.base import ContentStore

_MOST = 2**53 - 1
_MILLION = 1_000_000


@dataclass(frozen=True)
class ToldContribution:
    """An update that counted in a round.

    Parameters
    ----------
    round, address
        Which.
    score
        The contribution score; text where it is too large for a number of a document.
    units
        What the round paid for it.
    value, standard_error
        The value from which the score follows, and how far it may be off, in the unit of what the task's score counts
        in; None where the report does not tell them.
    """

    round: int
    address: str
    score: int | str | None
    units: int
    value: float | None = None
    standard_error: float | None = None


def told_contributions(
    store: ContentStore, report: ContentRef, index: int, shares: Mapping[str, int]
) -> list[ToldContribution]:
    """Return what a round's report tells of the updates that counted; of what cannot be read, nothing.

    Parameters
    ----------
    store, report
        Where the report is.
    index
        The round.
    shares
        Units of pay by address, as the ledger has them.

    Raises
    ------
    StoreError
        If it is missing from the store.
    """
    try:
        document = canonical.decode(store.get(report, canonical.MAX_DOCUMENT_BYTES))
    except (ContentUnreadableError, ValueError):
        document = {}
    rows = document.get("updates") if isinstance(document, dict) else None
    estimates = document.get("contributions") if isinstance(document, dict) else None
    found = []
    for row in rows if isinstance(rows, list) else []:
        owner = row.get("participant") if isinstance(row, dict) else None
        if not isinstance(owner, str) or not strict.is_text(owner) or not _counts(row.get("weight")):
            continue
        told = estimates.get(owner) if isinstance(estimates, dict) else None
        value, error = (_millionth(told, key) for key in ("value", "standard_error"))
        found.append(ToldContribution(index, owner, _score(row.get("score")), shares.get(owner, 0), value, error))
    return found


def _counts(weight: object) -> bool:
    return isinstance(weight, int) and weight > 0


def _score(score: object) -> int | str | None:
    if isinstance(score, str):
        return score if score.isascii() and score.isdecimal() else None
    return score if isinstance(score, int) and 0 <= score <= _MOST else None


def _millionth(told: object, key: str) -> float | None:
    if not isinstance(told, dict) or key not in told:
        return None
    try:
        return strict.whole(told[key], -_MOST, _MOST) / _MILLION
    except strict.SpellingError:
        return None
