"""What follows from a round, compared with what was proposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedledger.aggregator.round.inputs import proposal_of
from fedledger.aggregator.round.outcome import RoundOutcome
from fedledger.contracts.ledger.records import Proposal
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.ledger_tools.audit.divergence import expect
from fedledger.protocol.records.settlement import pack_words
from fedledger.protocol.records.verdicts import Verdict

_OF_ROWS = "staleness", "claimed", "finding"


def compare(
    index: int,
    outcome: RoundOutcome,
    report: dict[str, Any],
    posted: Proposal,
    current: RoundHistory,
    modelled: bool = False,
) -> None:
    """Compare what follows from a round with what was proposed.

    Parameters
    ----------
    index
        The round.
    outcome
        What follows.
    report, posted
        The proposal's report, whose ``updates`` name their participants, and the proposal.
    current
        The round's record.
    modelled
        Whether the task has a reputation model. Then a wrong reputation is named with whose it is; in other tasks it is
        the report's updates that differ, and jurors of earlier releases must find the same.

    Raises
    ------
    DivergenceError
        At the first difference.
    """
    expected = proposal_of(outcome)
    owners = {participation.id: participation.owner for participation in current.participations}
    for participant, verdict in sorted(expected.verdicts.items()):
        expect(
            index,
            f"verdict of {owners[participant]}",
            verdict.label,
            _label(posted.verdicts.get(participant)),
        )
    _compare_rows(index, outcome, report, (*_OF_ROWS, "reputation") if modelled else _OF_ROWS)
    for participant, share in sorted(expected.shares.items()):
        expect(index, f"pay share of {owners[participant]}", share, posted.shares.get(participant, 0))
    expect(index, "model", expected.model.cid, posted.model.cid)
    expect(index, "state", expected.state.cid, posted.state.cid)
    for key in outcome.document:
        expect(index, f"report.{key}", outcome.document[key], report.get(key))
    expect(index, "report", expected.report.cid, posted.report.cid)
    expect(index, "stop", expected.stop, posted.stop)
    words = pack_words(outcome.verdicts, outcome.shares)
    expect(
        index,
        "packed words",
        [list(w) for w in words],
        [list(posted.verdict_words), list(posted.share_words)],
    )


def _compare_rows(index: int, outcome: RoundOutcome, report: dict[str, Any], keys: Sequence[str]) -> None:
    """Name of whom a report tells something that does not follow; a task without it tells it of nobody."""
    posted = {row["participant"]: row for row in report["updates"]}
    for row in outcome.document["updates"]:
        owner = row["participant"]
        for key in keys:
            expect(index, f"{key} of {owner}", row.get(key), posted.get(owner, {}).get(key))


def _label(verdict: Verdict | None) -> str | None:
    return None if verdict is None else verdict.label
