"""A task's history as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from fedledger.contracts.history import History, RoundHistory
from fedledger.protocol.verdicts import Verdict


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


def _by_round(history: History, task: int, values: Callable[[RoundHistory], Mapping[int, object]]) -> pd.DataFrame:
    record = history.task(task)
    ids = sorted(record.enrolled, key=lambda i: history.owners[i].lower())
    rows = [[found.get(participant) for participant in ids] for found in map(values, record.settled)]
    rounds = pd.Index([r.index for r in record.settled], name="round")
    return pd.DataFrame(rows, rounds, [history.owners[participant] for participant in ids])
