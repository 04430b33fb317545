"""The picture: what each strategy comes to beside the same people being honest, and beside the median honest one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedledger.platform.incentives.pnl.runs import Row
from fedledger.platform.incentives.pnl.tables import Mean, means
from fedledger.protocol.errors import ConfigError

EXPECTED, DRAWN, OWN = "#d55e00", "#444444", "#0072b2"
"""Colours that are told apart without colour vision."""
DPI, TEXT, SMALL = 150, 7.0, 6.0
WIDTH, LEFT, LINE = 2.5, 1.7, 0.19
CAPTION = (
    "Orange: expected profit, with what checks take in the mean; grey dot: as updates were drawn; blue: the same "
    "people being honest. In pays: 1, dotted, is what the median honest participant has left when the cost of its work "
    "is paid."
)


def write_png(path: Path, rows: Sequence[Row]) -> None:
    """Draw rows into a PNG file.

    Raises
    ------
    ConfigError
        If there are none.
    """
    panels: dict[tuple[str, int, float], list[Mean]] = {}
    for mean in means(rows):
        if mean.honest > 0:
            panels.setdefault((mean.mechanism, mean.stake, mean.rate), []).append(mean)
    if not panels:
        raise ConfigError("There is nothing to draw: no run has an end.", "Look at the errors above.")
    names = list(dict.fromkeys(row.strategy for row in rows))
    width, height = LEFT + WIDTH * len(panels) + 0.1, LINE * len(names) + 1.4
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.1 / width, 1 - 0.1 / height, "Profit and loss of attackers", fontsize=9, va="top", weight="bold")
    for place, ((mechanism, stake, rate), group) in enumerate(panels.items()):
        left = (LEFT + place * WIDTH) / width
        axes = figure.add_axes((left, 0.75 / height, 0.9 * WIDTH / width, LINE * len(names) / height))
        at = [names.index(mean.strategy) for mean in group]
        axes.barh(at, [mean.expected / mean.honest for mean in group], 0.6, color=EXPECTED)
        axes.plot([mean.profit / mean.honest for mean in group], at, "o", color=DRAWN, markersize=2.5)
        axes.plot([mean.own / mean.honest for mean in group], at, "|", color=OWN, markersize=9, markeredgewidth=1.6)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), names if place == 0 else [""] * len(names))
        axes.tick_params(length=2, pad=2, labelsize=TEXT)
        axes.set_title(f"{mechanism}\nstake {stake:,} gwei, {100 * rate:g} % checked", fontsize=TEXT, pad=3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.text(0.1 / width, 0.06 / height, fill(CAPTION, int(width / 0.062)), fontsize=SMALL, va="bottom")
    # Without the name of the library and its version two pictures of the same figures are the same bytes.
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
