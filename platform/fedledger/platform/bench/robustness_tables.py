"""What runs against attackers come to, in tables: means over the seeds, and one pipeline after another."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from io import StringIO

from fedledger.platform.bench.attack_suite import GROUP, NONE, ON_OFF
from fedledger.platform.bench.robustness import IID, RobustnessRow
from fedledger.platform.bench.robustness_goals import judged
from fedledger.platform.bench.tables import between_marks, markdown_table
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.text import cell

COMMAND = "fedledger bench robustness"
NOTHING = "–"
COLUMNS = (
    "worst: the lowest accuracy of a seed; oracle: accuracy of the mean of the honest alone; success: share of test "
    "examples that a backdoor's trigger turns; F1: of refusals, of which those of hostile updates are right. Pay is in "
    "units of the honest median. best pay: of the best paid attacker; group pay: of all attackers together; pay after: "
    "as best pay, since those turned who attack on and off; poorest: of the poorest honest participant. gap: the "
    "lowest reputation of an honest participant minus the highest of an attacker."
)
"""What the columns of :func:`table_cells` are."""

Figure = Callable[[RobustnessRow], float | None]


@dataclass(frozen=True)
class Cross:
    """A table with a row for each attack, or class of attacks, and a column for each division of the data.

    Parameters
    ----------
    title
        What its cells are.
    figure
        Of a run.
    beside
        What stands in brackets behind the pipelines' figures, if anything.
    by_class
        Whether it has a row for each class, with means over its attacks.
    """

    title: str
    figure: Figure
    beside: Figure | None = None
    by_class: bool = False


def paid(row: RobustnessRow) -> float | None:
    """Return the pay for which goals are stated: of the best attacker, of a group, or after a turn."""
    if row.kind == GROUP:
        return row.pay_group
    return row.pay_after if row.kind == ON_OFF else row.pay_ratio


CROSSES = (
    Cross("Accuracy (oracle)", lambda row: row.accuracy, lambda row: row.oracle),
    Cross(
        "Pay over the honest median: of the best attacker, of a group together, of on-off attackers since the turn",
        paid,
    ),
    Cross("Success of backdoors", lambda row: row.attack_success),
    Cross("Share of honest updates refused", lambda row: row.refused_honest, by_class=True),
    Cross("Share of hostile updates refused", lambda row: row.refused_hostile, by_class=True),
    Cross("Pay of the poorest honest participant over the honest median", lambda row: row.pay_poorest, by_class=True),
    Cross(
        "Lowest reputation of an honest participant minus the highest of an attacker",
        lambda row: row.reputation_gap,
        by_class=True,
    ),
)


def table_cells(rows: Sequence[RobustnessRow]) -> list[dict[str, str]]:
    """Return a table's rows: means over the seeds by pipeline, attack and condition."""
    return [_cells(group) for group in _grouped(rows)]


def csv_table(rows: Sequence[RobustnessRow]) -> str:
    """Return all figures of all runs as a table of comma-separated values; what a run has not is empty."""
    text = StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(field.name for field in fields(RobustnessRow))
    table.writerows([cell(value) for value in astuple(row)] for row in rows)
    return text.getvalue()


def goal_cells(rows: Sequence[RobustnessRow]) -> list[dict[str, str]]:
    """Return what pipelines reach of the goals, as rows of a table."""
    return [
        {
            "pipeline": found.pipeline,
            "goal": found.goal,
            "Dirichlet": found.dirichlet,
            "limit": f"{found.limit:g}",
            "found": f"{found.found:.3f}",
            "met": "yes" if found.met else "no",
            "worst at": found.where,
        }
        for found in judged(rows)
    ]


def with_tables(document: str, rows: Sequence[RobustnessRow]) -> str:
    """Return a document in Markdown with the tables of these rows between its marks.

    Raises
    ------
    ConfigError
        If it has no such marks, or there are no rows.
    """
    if not any(row.error is None for row in rows):
        raise ConfigError("There is nothing to write: no run has an end.", "Look at the errors in the rows.")
    pipelines = list(dict.fromkeys(row.pipeline for row in rows))
    seeds = sorted({row.seed for row in rows})
    text = f"Means over the seeds {', '.join(map(str, seeds))}; pipelines: {' → '.join(pipelines)}.\n\n"
    if goals := goal_cells(rows):
        text += f"### Goals\n{markdown_table(goals)}\n"
    for population, own in populations_in(rows).items():
        text += f"### {population}\n"
        for cross in CROSSES:
            shown = [row for row in own if cross.figure(row) is not None]
            if shown:
                text += f"**{cross.title}**\n\n{markdown_table(_crossed(cross, shown, pipelines))}\n"
    return between_marks(document, COMMAND, text)


def populations_in(rows: Sequence[RobustnessRow]) -> dict[str, list[RobustnessRow]]:
    """Return the rows of each number of participants and attackers, and with each those where nobody attacks."""
    populations: dict[str, list[RobustnessRow]] = {}
    for first in rows:
        name = f"{first.data}, {first.hostile} of {first.participants} hostile"
        if first.attack == NONE or name in populations:
            continue
        alike = [row for row in rows if (row.data, row.participants) == (first.data, first.participants)]
        populations[name] = [
            row
            for row in alike
            if row.hostile == first.hostile or (row.attack == NONE and row.expected in (None, first.hostile))
        ]
    return populations or {f"{rows[0].data}, nobody hostile": list(rows)}


def _grouped(rows: Sequence[RobustnessRow]) -> list[list[RobustnessRow]]:
    groups: dict[tuple[object, ...], list[RobustnessRow]] = {}
    for row in rows:
        if row.error is None:
            key = row.data, row.participants, row.hostile, row.expected, row.dirichlet, row.attack, row.pipeline
            groups.setdefault(key, []).append(row)
    return list(groups.values())


def _cells(group: Sequence[RobustnessRow]) -> dict[str, str]:
    first = group[0]
    return {
        "pipeline": first.pipeline,
        "attack": first.attack,
        "class": first.kind,
        "data": first.data,
        "Dirichlet": str(first.dirichlet),
        "hostile": f"{first.hostile} of {first.participants}",
        "accuracy": _mean(group, lambda row: row.accuracy),
        "worst": f"{min(row.accuracy for row in group if row.accuracy is not None):.3f}",
        "oracle": _mean(group, lambda row: row.oracle),
        "success": _mean(group, lambda row: row.attack_success),
        "honest refused": _mean(group, lambda row: row.refused_honest),
        "hostile refused": _mean(group, lambda row: row.refused_hostile),
        "F1": _mean(group, lambda row: row.f1),
        "best pay": _mean(group, lambda row: row.pay_ratio),
        "group pay": _mean(group, lambda row: row.pay_group),
        "pay after": _mean(group, lambda row: row.pay_after),
        "poorest": _mean(group, lambda row: row.pay_poorest),
        "gap": _mean(group, lambda row: row.reputation_gap),
    }


def _crossed(cross: Cross, rows: Sequence[RobustnessRow], pipelines: Sequence[str]) -> list[Mapping[str, str]]:
    groups: dict[tuple[str, str], list[RobustnessRow]] = {}
    for row in rows:
        groups.setdefault(("" if cross.by_class else row.attack, row.kind), []).append(row)
    divisions = list(dict.fromkeys(row.dirichlet for row in rows))
    table: list[Mapping[str, str]] = []
    for (attack, kind), own in groups.items():
        cells = {"attack": attack, "class": kind} if attack else {"class": kind}
        for division in divisions:
            here = [row for row in own if row.dirichlet == division]
            cells["IID" if division == IID else f"Dirichlet {division}"] = _cell(cross, here, pipelines)
        table.append(cells)
    return table


def _cell(cross: Cross, rows: Sequence[RobustnessRow], pipelines: Sequence[str]) -> str:
    cell = " → ".join(_mean([row for row in rows if row.pipeline == each], cross.figure) for each in pipelines)
    return cell if cross.beside is None else f"{cell} ({_mean(rows, cross.beside)})"


def _mean(rows: Sequence[RobustnessRow], figure: Figure) -> str:
    values = [value for row in rows if (value := figure(row)) is not None]
    return f"{sum(values) / len(values):.3f}" if values else NOTHING
