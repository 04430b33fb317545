"""What strategies come to, in tables: means over seeds, and which of them break a promise."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from statistics import fmean

from fedledger.platform.bench.tables import between_marks, markdown_table
from fedledger.platform.incentives.pnl.runs import Row
from fedledger.platform.incentives.pnl.strategies import STRATEGIES
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.text import cell

COMMAND = "fedledger incentives pnl"
NOTHING = "–"
GAINS, BEATS, LOSES = "gains without work", "earns more than honest", "low-end devices lose"
COLUMNS = (
    "Means over the seeds, in pays: 1 is what the median honest participant of the same runs has left when the cost "
    "of its work is paid. stake: of one name. profit: money that came back less what was staked, and less the cost of "
    "work, as updates were drawn for checks; expected: likewise, with what checks of the failing updates take in the "
    "mean; if honest: what the same people come to if they are honest; failing: accepted updates that a check fails; "
    "honest, low-end: the median honest participants, all and those with low-end devices, in gwei. An exception has an "
    "expected profit above zero without work, or no lower than that of the same people being honest, or leaves the "
    "median low-end device of the honest below zero."
)
"""What the columns of :func:`table_cells` are."""


@dataclass(frozen=True)
class Mean:
    """What a strategy comes to under a mechanism, a stake and a rate: means over seeds, in gwei.

    Parameters
    ----------
    strategy, mechanism, stake, rate, works, applies
        See :class:`~fedledger.platform.incentives.pnl.runs.Row`.
    seeds
        How many.
    profit, expected, own, honest, low_end
        Profit as drawn and as expected, that of the same people being honest, and those of the median honest
        participants, of all and with low-end devices.
    failing
        Accepted updates that a check fails.
    """

    strategy: str
    mechanism: str
    stake: int
    rate: float
    works: bool
    applies: bool
    seeds: int
    profit: float
    expected: float
    own: float
    honest: float
    low_end: float | None
    failing: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Mean:
        """Return the mean of rows that differ in their seeds alone; there is at least one."""
        first = rows[0]
        low = [row.honest_low_end_profit for row in rows if row.honest_low_end_profit is not None]
        return cls(
            strategy=first.strategy,
            mechanism=first.mechanism,
            stake=first.stake,
            rate=first.spot_check_rate,
            works=first.works,
            applies=first.applies,
            seeds=len(rows),
            profit=fmean(row.profit for row in rows),
            expected=fmean(row.expected_profit for row in rows),
            own=fmean(row.honest_self_profit for row in rows),
            honest=fmean(row.honest_median_profit for row in rows),
            low_end=fmean(low) if low else None,
            failing=fmean(row.failing for row in rows),
        )

    @property
    def exception(self) -> str:
        """Which promise is broken, in a few words; empty: none."""
        broken = []
        if not self.works and self.expected > 0:
            broken.append(GAINS)
        if self.applies and self.expected >= self.own:
            broken.append(BEATS)
        if self.low_end is not None and self.low_end <= 0:
            broken.append(LOSES)
        return ", ".join(broken)


def means(rows: Sequence[Row]) -> list[Mean]:
    """Return the means of rows by mechanism, stake, rate and strategy, in their order."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.mechanism, row.stake, row.spot_check_rate, row.strategy), []).append(row)
    return [Mean.of(group) for group in groups.values()]


def table_cells(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return a table's rows; see :data:`COLUMNS`."""
    return [
        {
            "mechanism": mean.mechanism,
            "stake": f"{mean.stake:,}",
            "rate": f"{100 * mean.rate:g} %",
            "strategy": mean.strategy,
            "seeds": f"{mean.seeds}",
            "profit": _pays(mean.profit, mean),
            "expected": _pays(mean.expected, mean),
            "if honest": _pays(mean.own, mean),
            "failing": f"{mean.failing:.1f}",
            "honest": f"{mean.honest:,.0f}",
            "low-end": NOTHING if mean.low_end is None else f"{mean.low_end:,.0f}",
            "exception": mean.exception if mean.applies else "nothing to report",
        }
        for mean in means(rows)
    ]


def csv_table(rows: Sequence[Row]) -> str:
    """Return all rows as comma-separated values."""
    text = StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    names = [each.name for each in fields(Row)]
    table.writerow(names)
    table.writerows([cell(getattr(row, name)) for name in names] for row in rows)
    return text.getvalue()


def with_tables(document: str, rows: Sequence[Row]) -> str:
    """Return a document in Markdown with the table of these rows between its marks.

    Raises
    ------
    ConfigError
        If it has no such marks, or there are no rows.
    """
    if not rows:
        raise ConfigError("There is nothing to write: no run has an end.", "Look at the errors above.")
    cells = [{**row, "strategy": f"`{row['strategy']}`"} for row in table_cells(rows)]
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    about = [{"strategy": f"`{each.name}`", "what it does": each.about} for each in STRATEGIES.values()]
    text = f"\nSeeds {seeds}.\n\n{markdown_table(cells)}\n{COLUMNS}\n\n{markdown_table(about)}"
    return between_marks(document, COMMAND, text)


def documents(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the rows as JSON."""
    return [asdict(row) for row in rows]


def _pays(amount: float, mean: Mean) -> str:
    return f"{amount / mean.honest:.2f}" if mean.honest > 0 else NOTHING
