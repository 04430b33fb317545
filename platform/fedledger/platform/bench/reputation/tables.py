"""What scenarios come to under each model, in tables: means and spreads over the seeds."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from io import StringIO

from fedledger.platform.bench.reputation.figures import OverSeeds, ReputationRow, pays
from fedledger.platform.bench.tables import between_marks, markdown_table
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.text import cell

COMMAND = "fedledger bench reputation"
NOTHING = "–"
SERIES = ("trust", "trust_others")
"""Fields of rows with a value for each round; tables have none of them."""
COLUMNS = (
    "pay: of those whom the scenario is about, over what the same people earn if all are honest; pays: whether that is "
    "more than 1 beyond chance; beside: their pay a round over the others' median; weight: their share of all weight; "
    "hostile: the share of updates that attacked, in rounds with any; accuracy, and that of the honest play; caught: "
    "rounds from an attacker's first attack until its reputation is below the gate, or all that were left; escaped: "
    "share of attackers to whom that never happens; until weight, pay: rounds until newcomers have 90 % of the others' "
    "median; honest lost: share of honest pay that was lost by false refusals and gates; names: of each of them. ± is "
    "the standard deviation over seeds."
)
"""What the columns of :func:`table_cells` are."""

Figure = Callable[[ReputationRow], float | None]
Group = Sequence[ReputationRow]


@dataclass(frozen=True)
class Cross:
    """A table of one figure: scenarios by models.

    Parameters
    ----------
    title
        What its cells are.
    of
        The figure of a run; scenarios of which no run has it are left out.
    digits
        Digits behind the point.
    emphasised
        Whether a cell is set in bold letters.
    """

    title: str
    of: Figure
    digits: int = 2
    emphasised: Callable[[Group], bool | None] = lambda rows: False


def _cost(row: ReputationRow) -> float | None:
    if row.accuracy is None or row.accuracy_honest is None:
        return None
    return 100 * (row.accuracy_honest - row.accuracy)


def _honest_pay(row: ReputationRow) -> float | None:
    return row.pay_beside if row.hostile_weight is None else None


CROSSES = (
    Cross(
        "Pay over what the same people earn honestly; bold: more than that, beyond chance", lambda row: row.pay, 2, pays
    ),
    Cross(
        "Share of the weight that attacking updates had, in rounds with an attack", lambda row: row.hostile_weight, 3
    ),
    Cross("Accuracy lost against the honest play, in points", _cost, 1),
    Cross("Rounds from the first attack until the reputation is below the gate", lambda row: row.caught, 1),
    Cross("Share of attackers whose reputation never falls below the gate", lambda row: row.escaped),
    Cross("Share of honest pay lost by false refusals and gates", lambda row: row.honest_lost, 3),
    Cross("Rounds until newcomers weigh as others", lambda row: row.until_weight, 1),
    Cross("Rounds until newcomers earn as others", lambda row: row.until_pay, 1),
    Cross("Pay a round over the others' median, of those who are honest", _honest_pay),
)


def table_cells(rows: Sequence[ReputationRow]) -> list[dict[str, str]]:
    """Return a table's rows: what each scenario comes to under each model."""
    return [_cells(group) for group in grouped(rows).values()]


def grouped(rows: Sequence[ReputationRow]) -> dict[tuple[str, str, str], list[ReputationRow]]:
    """Return the runs that did not fail, by scenario, attack and model."""
    groups: dict[tuple[str, str, str], list[ReputationRow]] = {}
    for row in rows:
        if row.error is None:
            groups.setdefault((row.scenario, row.attack, row.model), []).append(row)
    return groups


def csv_table(rows: Sequence[ReputationRow]) -> str:
    """Return all figures of all runs but the series as comma-separated values; what a run has not is empty."""
    text = StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(ReputationRow) if field.name not in SERIES]
    table.writerow(names)
    table.writerows([cell(getattr(row, name)) for name in names] for row in rows)
    return text.getvalue()


def with_tables(document: str, rows: Sequence[ReputationRow]) -> str:
    """Return a document in Markdown with the tables of these rows between its marks.

    Raises
    ------
    ConfigError
        If it has no such marks, or no run has an end.
    """
    groups = grouped(rows)
    if not groups:
        raise ConfigError("There is nothing to write: no run has an end.", "Look at the errors in the rows.")
    models = list(dict.fromkeys(model for _, _, model in groups))
    seeds, rounds = sorted({row.seed for row in rows}), sorted({row.rounds for row in rows})
    text = (
        f"Means over the seeds {', '.join(map(str, seeds))}, ± the standard deviation; {', '.join(map(str, rounds))} "
        "rounds.\n\n"
    )
    for cross in CROSSES:
        table = [
            {"scenario": scenario, "attack": attack or NOTHING, **_crossed(cross, groups, scenario, attack, models)}
            for scenario, attack in dict.fromkeys(key[:2] for key in groups)
            if any(cross.of(row) is not None for row in rows if (row.scenario, row.attack) == (scenario, attack))
        ]
        if table:
            text += f"**{cross.title}**\n\n{markdown_table(table)}\n"
    return between_marks(document, COMMAND, text)


def _crossed(
    cross: Cross,
    groups: dict[tuple[str, str, str], list[ReputationRow]],
    scenario: str,
    attack: str,
    models: Sequence[str],
) -> dict[str, str]:
    cells = {}
    for model in models:
        group = groups.get((scenario, attack, model), [])
        text = spread(group, cross.of, cross.digits)
        cells[f"`{model}`"] = f"**{text}**" if group and cross.emphasised(group) else text
    return cells


def spread(rows: Group, of: Figure, digits: int = 2) -> str:
    """Return the mean of a figure over the seeds with its deviation, in letters."""
    found = OverSeeds.of([of(row) for row in rows])
    if found.mean is None or found.deviation is None:
        return NOTHING
    return f"{found.mean:.{digits}f}" + (f" ± {found.deviation:.{digits}f}" if found.seeds > 1 else "")


def _cells(group: Group) -> dict[str, str]:
    first, pay = group[0], pays(group)
    return {
        "scenario": first.scenario,
        "attack": first.attack or NOTHING,
        "model": first.model,
        "pay": spread(group, lambda row: row.pay),
        "pays": NOTHING if pay is None else "yes" if pay else "no",
        "beside": spread(group, lambda row: row.pay_beside),
        "weight": spread(group, lambda row: row.weight),
        "hostile": spread(group, lambda row: row.hostile_weight),
        "accuracy": spread(group, lambda row: row.accuracy, 3),
        "honest": spread(group, lambda row: row.accuracy_honest, 3),
        "caught": spread(group, lambda row: row.caught, 1),
        "escaped": spread(group, lambda row: row.escaped),
        "until weight": spread(group, lambda row: row.until_weight, 1),
        "until pay": spread(group, lambda row: row.until_pay, 1),
        "honest lost": spread(group, lambda row: row.honest_lost, 3),
        "names": spread(group, lambda row: row.names, 1),
    }
