"""What a task's mechanism may know of a round: the bids that stand, the record, and devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from fedledger.aggregator.mechanisms.base import Market, Offer
from fedledger.aggregator.mechanisms.tables import tables_in
from fedledger.aggregator.selection.base import Candidate
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.contracts.ledger.task_history import TaskHistory
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import MAX_STATE_BYTES
from fedledger.protocol.encoding.strict import SpellingError, whole
from fedledger.protocol.records.spec import ReportedNumber, TaskSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.base import ContentStore

Reports = Mapping[str, Mapping[str, int]]
"""What participants reported, by owner and name."""


def market_of(
    store: ContentStore,
    task: TaskHistory,
    spec: TaskSpec,
    index: int,
    candidates: Sequence[Candidate],
    draws: Callable[[], Stream],
) -> Market:
    """Return what a mechanism may know of a round.

    Parameters
    ----------
    store
        Where the report of the bidding round, and the aggregator's state, are fetched.
    task, spec, index
        The task, its spec, and the round.
    candidates
        Whom the round may ask, by address.
    draws
        Makes the mechanism's random stream.

    Raises
    ------
    StoreError
        If content cannot be had.
    """
    reports = heard_in(store, task.heard_before(index), spec.report) if spec.report else None
    state = task.state_before(index)
    return Market(
        offers=offers_of(candidates, reports),
        budget=task.units_at(index),
        least=task.params.quorum,
        round=index,
        draws=draws,
        tables=tables_in(b"" if state is None else store.get(state, MAX_STATE_BYTES)),
    )


def offers_of(candidates: Sequence[Candidate], reports: Reports | None) -> list[Offer]:
    """Return the offers of candidates: with ``reports`` only of those who were heard."""
    return [
        Offer(
            address=each.address,
            report={} if reports is None else reports[each.address],
            reputation=each.reputation,
            examples=each.examples,
            last_round=each.last_round,
            duration=each.duration,
            upload=each.upload or None,
        )
        for each in candidates
        if reports is None or each.address in reports
    ]


def heard_in(store: ContentStore, bidding: RoundHistory | None, numbers: Sequence[ReportedNumber]) -> Reports:
    """Return what was heard in a bidding round, by owner; nothing without one, or where its report is none.

    Raises
    ------
    StoreError
        If the report cannot be had.
    """
    if bidding is None or bidding.proposal is None:
        return {}
    bounds = tuple((number.name, number.least, number.most) for number in numbers)
    return _reports(store.get(bidding.proposal.report, canonical.MAX_DOCUMENT_BYTES), bounds)


@lru_cache(maxsize=8)
def _reports(raw: bytes, bounds: tuple[tuple[str, int, int], ...]) -> Reports:
    try:
        rows = canonical.decode(raw)["updates"]
        heard = [row for row in rows if row["verdict"] == Verdict.HEARD.label]
        told = {
            row["participant"]: {name: whole(row["report"][name], least, most) for name, least, most in bounds}
            for row in heard
        }
    except (ValueError, LookupError, TypeError, SpellingError):
        # What a liar proposed and nobody has voided yet tells nothing, to everybody.
        return {}
    return {owner: report for owner, report in told.items() if isinstance(owner, str)}
