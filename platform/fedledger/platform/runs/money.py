"""Money in what runs leave behind: what rounds pay, and what agents have gained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from fedledger.platform.agents.attendance import Attendance
from fedledger.platform.experiment.experiment import Experiment
from fedledger.platform.runs.summary import AgentSummary, RunSummary


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


def told_money(summary: RunSummary) -> list[str]:
    """Say what a run has spent, and what an agent of each group has gained on average, a line each."""
    agents = summary.get("agents", [])
    spent = [f"Rounds have paid {summary['spent']:,} units."] if "spent" in summary else []
    names = dict.fromkeys(each["group"] for each in agents)
    groups = {name: [each for each in agents if each["group"] == name] for name in names}
    return spent + [
        f"{name}, {len(group):,}: each worked in {_mean(group, 'rounds')} rounds, was paid "
        f"{_mean(group, 'pay')} units, and gained {_mean(group, 'utility')}."
        for name, group in groups.items()
    ]


def _mean(group: Sequence[AgentSummary], figure: Literal["rounds", "pay", "utility"]) -> str:
    return f"{fmean(each[figure] for each in group):,.1f}"
