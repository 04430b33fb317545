"""What a node reports in the bidding rounds of a task with a mechanism."""

from __future__ import annotations

from collections.abc import Mapping

from fedledger.node.updates import Bidder
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.bids import report_vector
from fedledger.protocol.records.spec import TaskSpec


def own_bidder(spec: TaskSpec, bids: Mapping[str, int]) -> Bidder | None:
    """Return what bids the same in every bidding round of a task; None where it asks for nothing, or nothing is bid.

    Raises
    ------
    ConfigError
        If the bids are not what the task asks for.
    """
    if not bids:
        return None
    if not spec.report:
        raise ConfigError("The node has bids, and the task asks for none.", "Leave out [bids], and --bid.")
    report_vector(bids, spec.report)
    told = dict(bids)
    return lambda index: told


def asked_by_reports(spec: TaskSpec, bids: Mapping[str, int]) -> str | None:
    """Say what a task asks participants to report, and what comes of it; None if it asks for nothing."""
    if not spec.report or spec.mechanism is None:
        return None
    names = ", ".join(f"{number.name} ({number.least:,} to {number.most:,})" for number in spec.report)
    told = f"Every {spec.bidding} rounds the task asks for bids, by which {spec.mechanism.method} pays: {names}."
    if bids:
        return told
    example = " ".join(f"--bid {number.name}=…" for number in spec.report)
    return f"{told} This node bids nothing, so it may not be asked to work: give {example}, or [bids] in its file."
