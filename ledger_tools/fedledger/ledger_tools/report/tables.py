"""A task's history, and disputes, as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.dispute_history import DisputeHistory, JuryHistory
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus
from fedledger.contracts.ledger.round_history import RoundHistory
from fedledger.protocol.records.verdicts import Verdict


def rounds_frame(history: History, task: int) -> pd.DataFrame:
    """Return one row a round: status, counts, units paid and the CIDs of model and report."""
    rows = []
    for index, r in sorted(history.task(task).rounds.items()):
        verdicts = list(r.verdicts.values())
        rows.append(
            {
                "round": index,
                "status": "settled" if r.settled else "voided" if r.voided else "proposed" if r.proposal else "open",
                "selected": len(r.selected),
                "committed": len(r.commits),
                "revealed": len(r.reveals),
                "accepted": sum(verdict is Verdict.ACCEPTED for verdict in verdicts),
                "refused": sum(verdict.refused for verdict in verdicts),
                "units": sum(r.proposal.shares.values()) if r.proposal else 0,
                "base": r.base.cid,
                "model": r.proposal.model.cid if r.proposal else None,
                "report": r.proposal.report.cid if r.proposal else None,
            }
        )
    return pd.DataFrame(rows)


def participants_frame(history: History, task: int) -> pd.DataFrame:
    """Return one row a participant: rounds accepted, refused by reason, reputation (ppm) and credit (units)."""
    record = history.task(task)
    rows = []
    for participant in sorted(record.enrolled, key=lambda i: history.owners[i].lower()):
        verdicts = [r.verdicts[participant] for r in record.settled if participant in r.verdicts]
        refused = [verdict.label for verdict in verdicts if verdict is not Verdict.ACCEPTED]
        rows.append(
            {
                "id": participant,
                "address": history.owners[participant],
                "accepted": sum(verdict is Verdict.ACCEPTED for verdict in verdicts),
                "refused": {reason: refused.count(reason) for reason in sorted(set(refused))},
                "reputation": history.evidence(record.publisher, participant).reputation,
                "credit": record.credit(participant),
                "earned": record.earned(participant),
            }
        )
    return pd.DataFrame(rows)


def reputations_frame(history: History, task: int) -> pd.DataFrame:
    """Return reputations (ppm) after each settled round: one row a round, one column an address."""
    return _by_round(history, task, lambda r: {i: evidence.reputation for i, evidence in r.left.items()})


def verdicts_frame(history: History, task: int) -> pd.DataFrame:
    """Return the verdicts of each settled round, in words: one row a round, one column an address."""
    return _by_round(history, task, lambda r: {i: verdict.label for i, verdict in r.verdicts.items()})


def pay_frame(history: History, task: int) -> pd.DataFrame:
    """Return the units that each settled round paid: one row a round, one column an address."""
    return _by_round(history, task, lambda r: r.proposal.shares if r.proposal else {}).fillna(0).astype(int)


def verifier_rows(ledger: Ledger, history: History) -> list[dict[str, Any]]:
    """Return one row for each verifier that has not retired; stakes are text, as JSON's numbers are too small."""
    rows = []
    for participant in sorted(history.verifiers):
        record = ledger.participant(participant)
        rows.append(
            {
                "id": participant,
                "address": record.owner,
                "stake": str(record.stake),
                "serving": ledger.is_serving(participant),
                "juries": record.locks,
            }
        )
    return rows


def dispute_rows(ledger: Ledger, history: History) -> list[dict[str, Any]]:
    """Return one row for each dispute, with its juries and votes; money is text, deadlines are times of blocks."""
    return [_dispute_row(ledger, history, dispute) for dispute in history.disputes]


def _dispute_row(ledger: Ledger, history: History, dispute: DisputeHistory) -> dict[str, Any]:
    about = history.owners[dispute.subject] if dispute.kind is DisputeKind.COMMITMENT else None
    return {
        "dispute": dispute.id,
        "task": dispute.task,
        "round": dispute.round,
        "kind": dispute.kind.name.lower(),
        "about": about,
        "status": dispute.status.name.lower(),
        "level": max(0, len(dispute.juries) - 1),
        "challenger": dispute.challenger,
        "bond": str(dispute.bond),
        "next": _next_of(ledger, dispute),
        "juries": [_jury_row(history, level, jury) for level, jury in enumerate(dispute.juries)],
    }


def _next_of(ledger: Ledger, dispute: DisputeHistory) -> dict[str, Any] | None:
    """Return what an open dispute waits for, and until when."""
    if dispute.status is not DisputeStatus.OPEN:
        return None
    record = ledger.dispute(dispute.id)
    if dispute.kind is DisputeKind.COMMITMENT:
        return {"step": "show", "until": record.deadline}
    jury = ledger.jury(dispute.id, record.level)
    if jury.decided:
        return {"step": "appeal", "until": record.deadline}
    if not jury.commits_until:
        return {"step": "draw", "until": jury.draw_until}
    if jury.committed < len(jury.members) and ledger.chain.now() < jury.commits_until:
        return {"step": "commit", "until": jury.commits_until}
    return {"step": "reveal", "until": jury.reveals_until}


def _jury_row(history: History, level: int, jury: JuryHistory) -> dict[str, Any]:
    return {
        "level": level,
        "members": [history.owners[juror] for juror in jury.members or ()],
        "committed": [history.owners[juror] for juror in jury.committed],
        "revealed": [
            {"juror": history.owners[juror], "valid": valid, "transcript": transcript.hex()}
            for juror, (valid, transcript) in jury.revealed.items()
        ],
        "found": None if not jury.decided else "nothing" if not any(jury.outcome) else _finding(jury.valid),
        "appellant": jury.appellant,
        "appeal_bond": str(jury.appeal_bond),
    }


def _finding(valid: bool) -> str:
    return "valid" if valid else "invalid"


def _by_round(history: History, task: int, values: Callable[[RoundHistory], Mapping[int, object]]) -> pd.DataFrame:
    record = history.task(task)
    ids = sorted(record.enrolled, key=lambda i: history.owners[i].lower())
    rows = [[found.get(participant) for participant in ids] for found in map(values, record.settled)]
    rounds = pd.Index([r.index for r in record.settled], name="round")
    return pd.DataFrame(rows, rounds, [history.owners[participant] for participant in ids])
