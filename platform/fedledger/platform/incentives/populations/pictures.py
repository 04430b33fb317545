"""The picture of a comparison: score for money spent, and what each mechanism comes to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedledger.platform.incentives.populations.figures import ComparisonRow
from fedledger.platform.incentives.populations.tables import grouped
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.text import shown

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#444444", "#999999")
"""Told apart without colour vision."""
DPI = 130
TEXT, TITLE = 7.5, 10.0
BARS = (
    ("participation", "participation"),
    ("welfare", "welfare, units"),
    ("profit", "publisher's profit, units"),
    ("pearson", "pay ~ data"),
    ("regret", "regret"),
)
LONGEST = 24


def write_png(path: Path, rows: Sequence[ComparisonRow]) -> None:
    """Draw runs into a PNG file, a row of panels for each population.

    Raises
    ------
    ConfigError
        If no run has an end.
    """
    groups = grouped(rows)
    if not groups:
        raise ConfigError("There is nothing to draw: no run has an end.", "Look at the errors in the rows.")
    populations = list(dict.fromkeys(population for population, _ in groups))
    mechanisms = list(dict.fromkeys(mechanism for _, mechanism in groups))
    figure = Figure(figsize=(13.0, 2.6 * len(populations) + 0.9), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("Mechanisms by population: means over seeds; whiskers are from least to most", fontsize=TITLE)
    panels = figure.subplots(len(populations), 1 + len(BARS), squeeze=False, width_ratios=[2.0, *[1.0] * len(BARS)])
    for axes, population in zip(panels, populations, strict=True):
        found = {name: groups[population, name] for name in mechanisms if (population, name) in groups}
        colours = {name: COLOURS[mechanisms.index(name) % len(COLOURS)] for name in found}
        for name, runs in found.items():
            _draw_curve(axes[0], runs, _name(name), colours[name])
        axes[0].xaxis.set_major_locator(MaxNLocator(5))
        axes[0].set_xlabel("units spent", fontsize=TEXT)
        axes[0].set_ylabel(f"{_name(population)}\nscore", fontsize=TEXT)
        for panel, (figure_name, title) in zip(axes[1:], BARS, strict=True):
            _draw_bars(panel, found, figure_name, colours)
            panel.set_title(title, fontsize=TEXT)
        for panel in axes:
            panel.tick_params(length=2, pad=2, labelsize=TEXT - 1)
            panel.spines[["top", "right"]].set_visible(False)
            panel.ticklabel_format(axis="y", scilimits=(-3, 5))
            panel.yaxis.get_offset_text().set_fontsize(TEXT - 1)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(8, len(labels)), fontsize=TEXT, frameon=False)
    # Without the name of the library and its version two pictures of the same figures are the same bytes.
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _draw_curve(axes: Axes, runs: Sequence[ComparisonRow], label: str, colour: str) -> None:
    """Draw the score against the money spent: each run thin, and the mean of both by round."""
    curves = [np.array(run.curve, np.float64) for run in runs if run.curve]
    for curve in curves:
        axes.plot(curve[:, 0], curve[:, 1], color=colour, linewidth=0.5, alpha=0.4)
    if curves:
        shortest = min(len(curve) for curve in curves)
        middle = np.mean([curve[:shortest] for curve in curves], axis=0)
        axes.plot(middle[:, 0], middle[:, 1], color=colour, linewidth=1.5, label=label)


def _draw_bars(axes: Axes, found: dict[str, list[ComparisonRow]], name: str, colours: dict[str, str]) -> None:
    for place, (mechanism, runs) in enumerate(found.items()):
        values = [value for run in runs if (value := getattr(run, name)) is not None]
        if values:
            middle = float(np.mean(values))
            spread = [[middle - min(values)], [max(values) - middle]]
            axes.bar(place, middle, 0.75, yerr=spread, color=colours[mechanism], error_kw={"linewidth": 0.8})
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.set_xticks([])


def _name(text: str) -> str:
    """Return a name as it fits: what cannot be seen is written out, and a $ starts no formula."""
    seen = shown(text).replace("$", r"\$")
    return seen if len(seen) <= LONGEST else f"{seen[: LONGEST - 1]}…"
