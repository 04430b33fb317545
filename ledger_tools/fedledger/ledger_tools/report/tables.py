"""A task's history, and disputes, as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import pandas as pd

from fedledger.contracts.ledger.client import Ledger
from fedledger.contracts.ledger.dispute_history import DisputeHistory, JuryHistory
from fedledger.contracts.ledger.history import History
from fedledger.contracts.ledger.pools import pool_of
from fedledger.contracts.ledger.records import DisputeKind, DisputeStatus, Phase, TaskRecord
from fedledger.contracts.ledger.waits import task_wait
from fedledger.ledger_tools.audit.check_view import ChecksView, CheckView, check_status, counted
from fedledger.ledger_tools.audit.clock import Clock
from fedledger.ledger_tools.audit.score_view import ScoresView, ScoringView
from fedledger.ledger_tools.report.contributions import ToldContribution
from fedledger.ledger_tools.report.refusals import Refusal
from fedledger.ledger_tools.report.task_view import RoundView, TaskView
from fedledger.protocol.units import in_gwei, shown_time

NAMED = "scorers", "revealed", "outvoted", "silent", "far"
"""Columns of scored rounds that name participants."""


def rounds_frame(task: TaskView, least_pool: int | None = None) -> pd.DataFrame:
    """Return one row per round: status, counts, units paid, its court, and the CIDs of model and report.

    Of a task with bidding rounds also how many bids were ``heard``.

    Parameters
    ----------
    task
        The task.
    least_pool
        Verifiers that have to serve the task for juries and penalties: with so many when it was opened, a round has a
        ``court``. None if that is not known.
    """
    window = task.challenge_window > 0
    bids = any(r.bidding for r in task.rounds)
    rows = [
        {
            "round": r.index,
            "status": r.status,
            "selected": r.selected,
            "committed": r.committed,
            "revealed": r.revealed,
            "accepted": r.accepted,
            "refused": r.refused,
            **({"heard": r.heard} if bids else {}),
            "units": sum(r.shares.values()),
            "court": None if least_pool is None or r.model is None else window and r.verifiers >= least_pool,
            "base": r.base.cid,
            "model": r.model.cid if r.model else None,
            "report": r.report.cid if r.report else None,
        }
        for r in task.rounds
    ]
    return pd.DataFrame(rows)


def participants_frame(task: TaskView) -> pd.DataFrame:
    """Return one row per participant: rounds accepted, refused by reason, reputation (ppm), credit (units), checks."""
    bids = any(r.bidding for r in task.rounds)
    rows = [dict(vars(participant)) for participant in task.participants]
    return pd.DataFrame(rows if bids else [{k: v for k, v in row.items() if k != "heard"} for row in rows])


def checks_frame(checks: ChecksView | None) -> pd.DataFrame:
    """Return one row per spot check; see ``CheckView``."""
    columns = [field.name for field in fields(CheckView)]
    return pd.DataFrame([vars(row) for row in checks.rows] if checks else [], columns=columns)


def scores_frame(scores: ScoresView | None) -> pd.DataFrame:
    """Return one row per scored round: who was drawn, whose updates do not count, and who was silent or far."""
    columns = [field.name for field in fields(ScoringView)]
    rows = [vars(row) | {name: list(getattr(row, name)) for name in NAMED} for row in (scores.rows if scores else ())]
    # Whole numbers stay whole beside rounds without a limit.
    return pd.DataFrame(rows, columns=columns).astype({"limit": "Int64"})


def scorers_frame(task: TaskView) -> pd.DataFrame:
    """Return what scorers did, in words: one row per scored round, one column per address of a participant."""
    rows = () if task.scores is None else task.scores.rows
    addresses = [participant.address for participant in task.participants]
    table = [[row.of_scorers().get(address) for address in addresses] for row in rows]
    return pd.DataFrame(table, pd.Index([row.round for row in rows], name="round"), addresses)


def outcomes_frame(task: TaskView) -> pd.DataFrame:
    """Return what came of spot checks, in words: one row per round with a proposal, one column per address."""
    rows = () if task.checks is None else task.checks.rows
    found = {(row.round, row.address): row.outcome for row in rows}
    rounds = [current.index for current in task.rounds if current.model is not None]
    addresses = [participant.address for participant in task.participants]
    table = [[found.get((index, address)) for address in addresses] for index in rounds]
    return pd.DataFrame(table, pd.Index(rounds, name="round"), addresses)


def refusals_frame(refusals: Sequence[Refusal]) -> pd.DataFrame:
    """Return one row per update that was not accepted: the reason, what it rests on, and what its sender claims."""
    columns = [field.name for field in fields(Refusal)]
    # Whole numbers stay whole beside those that nobody knows.
    return pd.DataFrame([vars(refusal) for refusal in refusals], columns=columns).astype({"claimed": "Int64"})


def contributions_frame(contributions: Sequence[ToldContribution]) -> pd.DataFrame:
    """Return one row per update that counted: its score, its pay, and the value from which both follow."""
    return pd.DataFrame(
        [vars(told) for told in contributions], columns=[each.name for each in fields(ToldContribution)]
    )


def reputations_frame(task: TaskView) -> pd.DataFrame:
    """Return reputations (ppm) after each settled round: one row per round, one column per address."""
    return _by_round(task, lambda r: r.reputations)


def verdicts_frame(task: TaskView) -> pd.DataFrame:
    """Return the verdicts of each settled round, in words: one row per round, one column per address."""
    return _by_round(task, lambda r: r.verdicts)


def pay_frame(task: TaskView) -> pd.DataFrame:
    """Return the units that each settled round paid: one row per round, one column per address."""
    return _by_round(task, lambda r: r.shares).fillna(0).astype(int)


def task_status_rows(ledger: Ledger) -> list[dict[str, Any]]:
    """Return one row per task of a ledger: its phase, rounds, participants, units spent, and who would judge it.

    ``waits`` says for what it waits, for whom, and until when. ``least`` and ``most`` are how many participants it may
    have, and ``enrols`` says whether one more may enrol now.

    ``verifiers`` serve the task, ``judged`` says whether they are enough for juries and penalties, and ``court`` what
    that means in words. ``capture`` is, for each level of juries, the chance that one of them is captured by who holds
    three tenths of their places; None where there are no juries.

    ``checks`` is what :func:`~fedledger.ledger_tools.audit.check_view.check_status` returns, and ``scoring`` what
    :meth:`~fedledger.ledger_tools.audit.score_view.ScoresView.status` does; None without.
    """
    rows = []
    records = {task: ledger.task(task) for task in range(1, ledger.task_count() + 1)}
    checks, scoring = _told_by_logs(ledger, records)
    for task, record in records.items():
        pool = pool_of(ledger, task) if record.params.challenge_window else None
        phase = ledger.phase(task)
        goes_on = not record.finished and not record.is_complete
        enrols = phase is Phase.ENROLLING or (record.params.open_enrolment and goes_on)
        rows.append(
            {
                "task": task,
                "phase": phase.name.lower(),
                "round": record.current_round,
                "settled": record.settled_rounds,
                "rounds": record.params.rounds,
                "enrolled": record.enrolled,
                "least": record.params.min_participants,
                "most": record.params.max_participants,
                "enrols": enrols and record.enrolled < record.params.max_participants,
                "spent_units": record.spent_units,
                "window": record.params.challenge_window,
                "verifiers": pool.serving if pool else None,
                "judged": pool.suffices if pool else False,
                "capture": [round(chance, 4) for chance in pool.capture] if pool and pool.suffices else None,
                "checks": checks.get(task),
                "scoring": scoring.get(task),
                "waits": str(task_wait(ledger, task)),
                "court": pool.told() if pool else "nobody can dispute its rounds, as it has no challenge window",
            }
        )
    return rows


Told = dict[int, dict[str, Any] | None]
"""A document for each task that has something to tell."""


def _told_by_logs(ledger: Ledger, records: Mapping[int, TaskRecord]) -> tuple[Told, Told]:
    """Return how checks and scoring of tasks stand; only for those that have some are all logs of a ledger read."""
    checked = [task for task, record in records.items() if record.params.check_rate]
    scored = [task for task, record in records.items() if record.params.scorers]
    if not checked and not scored:
        return {}, {}
    history, clock = History(ledger).update(), Clock.of(ledger)
    views = {task: ScoresView.of(history, task) for task in scored}
    scoring: Told = {task: view.status() for task, view in views.items() if view is not None}
    return {task: check_status(history, task, clock) for task in checked}, scoring


def task_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of :func:`task_status_rows` as a table shows it: without its sentences."""
    hidden = ("capture", "court", "waits", "least", "most", "enrols")
    cells = {name: value for name, value in row.items() if name not in hidden}
    places = f"{row['enrolled']} ({row['least']} to {row['most']})"
    checks = row["checks"]
    told = "" if checks is None else counted(checks["outcomes"])
    scoring = row["scoring"]
    scored = "" if not scoring or not scoring["round"] else f"round {scoring['round']} {scoring['state']}"
    return cells | {"enrolled": places + (", enrols" if row["enrols"] else ""), "checks": told, "scoring": scored}


def verifier_rows(ledger: Ledger, history: History) -> list[dict[str, Any]]:
    """Return one row for each verifier that has not retired; stakes are text, as JSON's numbers are too small.

    ``enlisted`` says whether it has enough stake to be drawn, and ``tasks`` are those that it serves.
    """
    rows = []
    for participant in sorted(history.verifiers):
        record = ledger.participant(participant)
        rows.append(
            {
                "id": participant,
                "address": record.owner,
                "stake": str(record.stake),
                "enlisted": ledger.is_serving(participant),
                "tasks": sorted(task for task, serving in history.serving.items() if participant in serving),
                "juries": record.locks,
            }
        )
    return rows


def dispute_rows(ledger: Ledger, history: History) -> list[dict[str, Any]]:
    """Return one row for each dispute, with its juries and votes; money is text, deadlines are times of blocks."""
    return [_dispute_row(ledger, history, dispute) for dispute in history.disputes]


def dispute_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of :func:`dispute_rows` as a person reads it: without its juries, and with the time in words."""
    due = row["next"]
    told = "" if due is None else f"{due['step']} until {shown_time(due['until'])}"
    cells = {name: value for name, value in row.items() if name != "juries"}
    return cells | {"bond": in_gwei(int(row["bond"])), "next": told}


def jury_rows(disputes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per jury of the rows of :func:`dispute_rows`, with numbers of jurors and votes in words."""
    return [
        {
            "dispute": row["dispute"],
            **jury,
            "members": len(jury["members"]),
            "committed": len(jury["committed"]),
            "revealed": ", ".join(vote["found"] for vote in jury["revealed"]),
        }
        for row in disputes
        for jury in row["juries"]
    ]


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
            {"juror": history.owners[juror], "found": finding.label, "transcript": transcript.hex()}
            for juror, (finding, transcript) in jury.revealed.items()
        ],
        "found": jury.finding.label if jury.decided else None,
        "appellant": jury.appellant,
        "appeal_bond": str(jury.appeal_bond),
    }


def _by_round(task: TaskView, values: Callable[[RoundView], Mapping[str, object]]) -> pd.DataFrame:
    addresses = [participant.address for participant in task.participants]
    settled = task.settled
    rows = [[found.get(address) for address in addresses] for found in map(values, settled)]
    return pd.DataFrame(rows, pd.Index([r.index for r in settled], name="round"), addresses)
