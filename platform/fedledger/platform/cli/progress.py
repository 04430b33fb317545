"""What the command line draws besides plain tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fedledger.platform.cli.console import err

if TYPE_CHECKING:
    from fedledger.learning.label_counts import LabelCounts
    from fedledger.platform.runs.grid import PlannedRun
    from fedledger.platform.runs.run_folder import RunRecord
    from fedledger.platform.runs.sweep import Failure

FEW_PARTICIPANTS = 20
FEW_CLASSES = 12
MAX_SHOWN = 12


def heat_map(labels: LabelCounts) -> Table | None:
    """Return a map of examples by participant and class, or None where it would not fit a screen."""
    if labels.participants > FEW_PARTICIPANTS or labels.classes > FEW_CLASSES:
        return None
    table = Table(title="Examples by participant and class", title_justify="left", box=None, padding=0)
    table.add_column("participant ", justify="right")
    for number in range(labels.classes):
        table.add_column(f"{number} ", justify="right")
    table.add_column("  examples", justify="right")
    table.add_column("  effective classes", justify="right")
    most = max(int(labels.counts.max(initial=0)), 1)
    figures = zip(labels.counts.tolist(), labels.sizes, labels.effective_classes, strict=True)
    for number, (row, size, effective) in enumerate(figures):
        cells = [Text(f" {count:>4} ", style=_shade(count / most)) for count in row]
        table.add_row(f"{number} ", *cells, f"{size:,}", f"{effective:.2f}")
    return table


@contextmanager
def sweeping(console: Console, total: int) -> Iterator[Callable[[PlannedRun, RunRecord | Failure, int], None]]:
    """Show the runs of a sweep as they end, a line each, and on a terminal a bar of all."""
    columns = (TextColumn("sweeping"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def watch(run: PlannedRun, outcome: Any, done: int) -> None:
            what = f"{done}/{total}  {run.label or run.config.name}  seed {run.config.seed}"
            if summary := getattr(outcome, "summary", None):
                what += f"  accuracy {summary['accuracy']:.4f}  {summary['rounds']} rounds  {summary['seconds']:.1f} s"
            else:
                what += f"  failed: {outcome.reason}"
            console.print(what, highlight=False, markup=False, soft_wrap=True)
            bar.update(task, completed=done)

        yield watch


@contextmanager
def live_rounds() -> Iterator[Any]:
    """Show the rounds as they come: live on a terminal, a line each otherwise."""
    columns = ("round", "accuracy", "accepted", "refused", "least to greatest reputation", "gas")
    table = Table(*columns, box=None)

    def row(p: Any) -> list[str]:
        shown = sorted(p.reputations)
        if len(shown) > MAX_SHOWN:
            # The deciles say as much as a line can.
            shown = [shown[round(tenth * (len(shown) - 1) / 10)] for tenth in range(11)]
        reputations = " ".join(f"{reputation / 1e6:.2f}" for reputation in shown)
        return [
            f"{p.round}/{p.rounds}",
            f"{p.accuracy:.3f}",
            str(p.accepted),
            str(p.refused),
            reputations,
            f"{p.gas:,}",
        ]

    if not err.is_terminal:
        err.print(", ".join(columns), highlight=False)
        yield lambda p: err.print("  ".join(row(p)), highlight=False, soft_wrap=True)
        return
    with Live(table, console=err, refresh_per_second=8):
        yield lambda p: table.add_row(*row(p))


def _shade(share: float) -> str:
    """Return white ink on a blue that is the deeper, the larger the share is; plain where there is nothing."""
    if not share:
        return ""
    red, green, blue = (round(dark + (deep - dark) * share) for dark, deep in ((40, 23), (44, 110), (60, 235)))
    return f"white on rgb({red},{green},{blue})"
