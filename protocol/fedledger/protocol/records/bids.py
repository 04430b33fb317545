"""Bids: what participants report in bidding rounds, sealed by the same commitments as updates.

A bid is an update whose only tensor is ``report``, int64[m]: a whole number for each name of the spec, in its order. It
is relative to the round's base model and signed like any other, so a bid of another round, task or participant is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.spec import ReportedNumber
from fedledger.protocol.records.update import UpdateRefusedError
from fedledger.protocol.records.verdicts import Verdict

REPORT = "report"


def bids_are_due(every: int, index: int, last: int, stands: bool) -> bool:
    """Return whether a round asks for bids and not for updates, as the ledger says it.

    Parameters
    ----------
    every
        Every how many rounds one does; 0: none does.
    index
        The round.
    last
        The last round before it that asked for bids; 0: none did.
    stands
        Whether that was neither voided nor below quorum.
    """
    return every > 0 and (not last or not stands or index - last >= every)


def report_vector(report: Mapping[str, int], numbers: Sequence[ReportedNumber]) -> dict[str, NDArray[np.generic]]:
    """Return the tensors of a bid.

    Raises
    ------
    ConfigError
        If the report lacks a number of the task's, has another one, or one that is out of bounds.
    """
    names = [number.name for number in numbers]
    if sorted(report) != sorted(names):
        given = ", ".join(sorted(report)) or "nothing"
        raise ConfigError(f"The bid reports {given}; the task asks for {', '.join(names)}.", "Report exactly these.")
    for number in numbers:
        if not number.least <= report[number.name] <= number.most:
            raise ConfigError(
                f"The bid reports {number.name} = {report[number.name]:,}; the task takes {number.least:,} to "
                f"{number.most:,}.",
                "Report a number in this range, or nothing: then the participant is not asked.",
            )
    return {REPORT: np.array([report[name] for name in names], np.int64)}


def report_of(vectors: Mapping[str, NDArray[np.generic]], numbers: Sequence[ReportedNumber]) -> dict[str, int]:
    """Return what a stranger's bid reports, by name.

    Raises
    ------
    UpdateRefusedError
        If its tensors are no report, or a number is out of the spec's bounds.
    """
    values = vectors.get(REPORT)
    if list(vectors) != [REPORT] or values is None or values.dtype != np.int64:
        raise UpdateRefusedError(Verdict.MALFORMED, "a bid holds its report, int64, and nothing else")
    if values.shape != (len(numbers),):
        raise UpdateRefusedError(Verdict.WRONG_SHAPE, f"the report has not {len(numbers)} numbers")
    told = {number.name: int(value) for number, value in zip(numbers, values, strict=True)}
    for number in numbers:
        if not number.least <= told[number.name] <= number.most:
            raise UpdateRefusedError(Verdict.OUT_OF_RANGE, f"the reported {number.name} is out of the task's bounds")
    return told
