"""Tables of comparisons: a line for each mechanism and population, over seeds."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from statistics import fmean

from fedledger.platform.incentives.populations.figures import ComparisonRow

COLUMNS = (
    "Money is in units of credit, and means are over seeds. gained: what the model is worth to the publisher beyond "
    "the initial one; profit: gained less spent; welfare: gained less cost; participation: who worked of those who "
    "could; unharmed: agents whose pay covers their cost; pay ~ data: correlation of pay with the examples behind "
    "honest updates that count; regret: the share of such examples that was not bought of those that a choice which "
    "knows all costs would have bought, negative where others work below cost."
)
MONEY = ("spent", "cost", "gained", "profit", "welfare")
SHARES = ("score", "participation", "unharmed", "pearson", "regret")
_NAMES = {"pearson": "pay ~ data"}


def grouped(rows: Sequence[ComparisonRow]) -> dict[tuple[str, str], list[ComparisonRow]]:
    """Return the runs that did not fail by population and mechanism, in their order."""
    groups: dict[tuple[str, str], list[ComparisonRow]] = {}
    for row in rows:
        if row.error is None:
            groups.setdefault((row.population, row.mechanism), []).append(row)
    return groups


def mean(rows: Sequence[ComparisonRow], name: str) -> float | None:
    """Return the mean of a figure over runs; None where none of them has it."""
    known = [value for row in rows if (value := getattr(row, name)) is not None]
    return fmean(known) if known else None


def table_cells(rows: Sequence[ComparisonRow], of: str = "population") -> list[dict[str, str]]:
    """Return the table to read; its first column is named after what its lines are of."""
    cells = []
    for (population, mechanism), group in grouped(rows).items():
        row = {of: population, "mechanism": mechanism, "seeds": str(len(group))}
        for name in ("score", *MONEY, *SHARES[1:]):
            value = mean(group, name)
            form = ",.0f" if name in MONEY else ".3f"
            row[_NAMES.get(name, name)] = "–" if value is None else format(value, form)
        if any(each.stopped is not None for group in grouped(rows).values() for each in group):
            row["ended early"] = str(sum(each.stopped is not None for each in group))
        cells.append(row)
    return cells


def utility_cells(rows: Sequence[ComparisonRow], of: str = "population") -> list[dict[str, str]]:
    """Return the table of what each group of agents gains: mean pay less cost of one of them, in units."""
    cells = []
    names = list(dict.fromkeys(name for row in rows for name in row.utilities or {}))
    for (population, mechanism), group in grouped(rows).items():
        row = {of: population, "mechanism": mechanism}
        for name in names:
            known = [row.utilities[name] for row in group if row.utilities is not None and name in row.utilities]
            row[name] = f"{fmean(known):,.0f}" if known else "–"
        cells.append(row)
    return cells


def csv_table(rows: Sequence[ComparisonRow]) -> str:
    """Return all runs as CSV, a line each."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    names = ("mechanism", "population", "seed", *SHARES, *MONEY, "stopped", "error")
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    return text.getvalue()
