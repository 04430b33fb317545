"""Money in what runs leave behind: what rounds pay, and what agents have gained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedledger.platform.agents.attendance import Attendance
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.summary import AgentSummary


def money_row(shares: Mapping[int, int], before: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return what a round paid, and what had been spent by its end, in units.

    Parameters
    ----------
    shares
        What each participant was paid, by number.
    before
        The rows of the rounds before.
    """
    pay = sum(shares.values())
    return {"pay": pay, "spent": pay + sum(row.get("pay", 0) for row in before)}


def agent_rows(experiment: Experiment, attendance: Attendance) -> list[AgentSummary]:
    """Return what each agent of an experiment came to; none where it has none."""
    found = ((number, agent, attendance.experience(number)) for number, agent in enumerate(experiment.agents))
    return [
        {
            "address": experiment.address(number),
            "group": agent.group.name,
            "rounds": seen.rounds,
            "pay": seen.pay,
            "cost": seen.cost,
            "utility": seen.utility,
        }
        for number, agent, seen in found
    ]


def money(experiment: Experiment, attendance: Attendance, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a run's summary says of money, given its rows of metrics; nothing if no round was paid for."""
    agents = agent_rows(experiment, attendance)
    spent = {"spent": rows[-1]["spent"]} if rows and "spent" in rows[-1] else {}
    return {**spent, **({"agents": agents} if agents else {})}
