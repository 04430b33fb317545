"""Maps and progress on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fedledger.platform.cli.console import err
from fedledger.protocol.text import shown

if TYPE_CHECKING:
    from fedledger.learning.label_counts import LabelCounts
    from fedledger.platform.engine import with_ledger
    from fedledger.platform.runs.grid import PlannedRun
    from fedledger.platform.runs.run_folder import RunRecord
    from fedledger.platform.runs.sweep import FailedRun

FEW_PARTICIPANTS = 20
FEW_CLASSES = 12
MAX_SHOWN = 12


def heat_map(labels: LabelCounts) -> Table | None:
    """Return a map of examples by participant and class (or tenth), or None where it would not fit a screen."""
    from fedledger.learning.label_counts import EFFECTIVE

    if labels.participants > FEW_PARTICIPANTS or labels.classes > FEW_CLASSES:
        return None
    effective = EFFECTIVE.get(labels.kind)
    by = f" and {labels.kind}" if effective else ""
    table = Table(title=f"Examples by participant{by}", title_justify="left", box=None, padding=0)
    table.add_column("participant ", justify="right")
    for number in range(labels.classes):
        table.add_column(f"{number if effective else ''} ", justify="right")
    table.add_column("  examples", justify="right")
    if effective:
        table.add_column(f"  {effective.replace('_', ' ')}", justify="right")
    most = max(int(labels.counts.max(initial=0)), 1)
    figures = zip(labels.counts.tolist(), labels.sizes, labels.effective_classes, strict=True)
    for number, (row, size, number_of) in enumerate(figures):
        cells = [Text(f" {count:>4} ", style=_shade(count / most)) for count in row]
        table.add_row(f"{number} ", *cells, f"{size:,}", *([f"{number_of:.2f}"] if effective else []))
    return table


@contextmanager
def sweeping(console: Console, total: int) -> Iterator[Callable[[PlannedRun, RunRecord | FailedRun, int], None]]:
    """Show each run of a sweep on a line of its own as it ends, and on a terminal a bar for all of them."""
    from fedledger.platform.runs.sweep import FailedRun

    columns = (TextColumn("sweeping"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def watch(run: PlannedRun, outcome: RunRecord | FailedRun, done: int) -> None:
            if isinstance(outcome, FailedRun):
                ended = f"failed: {outcome.reason}"
            else:
                ended = f"{outcome.score_name} {outcome.score:.4f}  {outcome.rounds} rounds  {outcome.seconds:.1f} s"
            name = f"{run.label or run.config.name}  seed {run.config.seed}"
            console.print(shown(f"{done}/{total}  {name}  {ended}"), highlight=False, markup=False, soft_wrap=True)
            bar.update(task, completed=done)

        yield watch


@contextmanager
def live_rounds(score_name: str) -> Iterator[Callable[[with_ledger.RoundMetrics], None]]:
    """Show rounds as they end: in a live table on a terminal, else a line each."""
    columns = ("round", "loss", score_name, "accepted", "refused", "lowest to highest reputation", "gas")
    table = Table(*columns, box=None)
    if not err.is_terminal:
        err.print(", ".join(columns), highlight=False)
        yield lambda row: err.print("  ".join(_cells(row)), highlight=False, soft_wrap=True)
        return
    with Live(table, console=err, refresh_per_second=8):
        yield lambda row: table.add_row(*_cells(row))


def _cells(row: with_ledger.RoundMetrics) -> list[str]:
    shown = sorted(row.reputations)
    if len(shown) > MAX_SHOWN:
        # The deciles say as much as a line can.
        shown = [shown[round(tenth * (len(shown) - 1) / 10)] for tenth in range(11)]
    reputations = " ".join(f"{reputation / 1e6:.2f}" for reputation in shown)
    counts = str(row.accepted), str(row.refused)
    tested = f"{row.tested.loss:.4f}", f"{row.tested.score:.4f}"
    return [f"{row.round}/{row.rounds}", *tested, *counts, reputations, f"{row.gas:,}"]


def _shade(share: float) -> str:
    """Return white ink on a blue that is the deeper, the larger the share is; plain where there is nothing."""
    if not share:
        return ""
    red, green, blue = (round(dark + (deep - dark) * share) for dark, deep in ((40, 23), (44, 110), (60, 235)))
    return f"white on rgb({red},{green},{blue})"
