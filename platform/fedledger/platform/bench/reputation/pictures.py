"""The picture of the bench: trust over time by model and scenario, and what scenarios cost and pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedledger.platform.bench.reputation.figures import OverSeeds, ReputationRow
from fedledger.platform.bench.reputation.scenarios import SCENARIOS
from fedledger.platform.bench.reputation.tables import grouped
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.text import shown

SUBJECTS, OTHERS = "#d55e00", "#0072b2"
"""Colours that are told apart without colour vision."""
MODELS = ("#444444", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
DPI = 150
WIDTH, HEIGHT = 1.45, 1.05
"""Of a panel of trust, in inches."""
TEXT, SMALL, TITLE = 7.0, 6.0, 10.0
LEFT, TOP, BOTTOM, BARS = 1.15, 0.75, 0.75, 1.5
LONGEST = 26

Figured = Callable[[ReputationRow], float | None]


def write_png(path: Path, rows: Sequence[ReputationRow]) -> None:
    """Draw runs into a PNG file.

    Raises
    ------
    ConfigError
        If no run has an end.
    """
    groups = grouped(rows)
    if not groups:
        raise ConfigError("There is nothing to draw: no run has an end.", "Look at the errors in the rows.")
    models = list(dict.fromkeys(model for _, _, model in groups))
    columns = list(dict.fromkeys(key[:2] for key in groups))
    width, height = LEFT + WIDTH * len(columns) + 0.2, TOP + HEIGHT * len(models) + 2 * BARS + BOTTOM
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(
        0.1 / width, 1 - 0.1 / height, "Reputation by model and scenario", fontsize=TITLE, va="top", weight="bold"
    )
    for down, model in enumerate(models):
        for across, column in enumerate(columns):
            axes = _axes(figure, LEFT + across * WIDTH, TOP + down * HEIGHT, (WIDTH * 0.9, HEIGHT * 0.86))
            _draw_trust(axes, groups.get((*column, model), []))
            _label(axes, model if across == 0 else None, down == len(models) - 1)
            if down == 0:
                axes.set_title(_title(column), fontsize=TEXT, pad=3, weight="bold")
    top = TOP + HEIGHT * len(models) + 0.35
    pay = _axes(figure, LEFT, top, (WIDTH * len(columns) - 0.1, BARS - 0.45))
    _draw_bars(pay, groups, columns, models, lambda row: row.pay_beside if row.pay is None else row.pay)
    pay.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    pay.set_ylabel("pay over\nhonest pay", fontsize=TEXT)
    accuracy = _axes(figure, LEFT, top + BARS, (WIDTH * len(columns) - 0.1, BARS - 0.45))
    _draw_bars(accuracy, groups, columns, models, _gained)
    accuracy.axhline(0.0, color="black", linewidth=0.8)
    accuracy.set_ylabel("accuracy beside\nhonest play, points", fontsize=TEXT)
    accuracy.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=len(models), fontsize=TEXT, frameon=False)
    figure.text(0.1 / width, 0.06 / height, fill(_caption(rows), int(width / 0.062)), fontsize=SMALL, va="bottom")
    # Without the name of the library and its version two pictures of the same figures are the same bytes.
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _caption(rows: Sequence[ReputationRow]) -> str:
    seeds = sorted({row.seed for row in rows})
    over = f"means over the seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    return (
        f"Mean reputation by round of those whom the scenario is about (orange) and of all others (blue), {over}; "
        "shaded, and whiskers: one standard deviation over seeds. Pay is over what the same people earn if all are "
        "honest, and where all are honest anyway over the others' median; above the dotted line it is more."
    )


def _title(column: tuple[str, str]) -> str:
    scenario, attack = column
    return f"{scenario}\n{_name(attack)}" if attack else f"{scenario}\n{SCENARIOS[scenario].subjects}"


def _name(text: str) -> str:
    """Return a name as it fits: what cannot be seen is written out, and a $ starts no formula."""
    seen = shown(text).replace("$", r"\$")
    return seen if len(seen) <= LONGEST else f"{seen[: LONGEST - 1]}…"


def _axes(figure: Figure, left: float, top: float, size: tuple[float, float]) -> Axes:
    """Return axes at a place in inches from the upper left corner."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, 1 - (top + size[1]) / height, size[0] / width, size[1] / height))


def _label(axes: Axes, model: str | None, last: bool) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.5, 1])
    axes.tick_params(length=2, pad=2, labelsize=SMALL, labelbottom=last, labelleft=model is not None)
    if model is not None:
        axes.set_ylabel(fill(_name(model), 16), fontsize=TEXT, weight="bold")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_trust(axes: Axes, group: Sequence[ReputationRow]) -> None:
    for colour, curves in ((OTHERS, [row.trust_others for row in group]), (SUBJECTS, [row.trust for row in group])):
        values = [OverSeeds.of(each) for each in zip(*curves, strict=True)]
        known = [(index, one.mean, one.deviation or 0.0) for index, one in enumerate(values, 1) if one.mean is not None]
        if known:
            x, mean, deviation = (np.array(each, np.float64) for each in zip(*known, strict=True))
            axes.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=0.18, linewidth=0)
            axes.plot(x, mean, color=colour, linewidth=1.1)


def _gained(row: ReputationRow) -> float | None:
    if row.accuracy is None or row.accuracy_honest is None:
        return None
    return 100 * (row.accuracy - row.accuracy_honest)


def _draw_bars(
    axes: Axes,
    groups: dict[tuple[str, str, str], list[ReputationRow]],
    columns: Sequence[tuple[str, str]],
    models: Sequence[str],
    of: Figured,
) -> None:
    """Draw a bar for each model in each scenario."""
    width = 0.8 / len(models)
    for place, model in enumerate(models):
        found = [OverSeeds.of([of(row) for row in groups.get((*column, model), [])]) for column in columns]
        x = [number - 0.4 + (place + 0.5) * width for number, one in enumerate(found) if one.mean is not None]
        known = [(one.mean, one.deviation) for one in found if one.mean is not None and one.deviation is not None]
        heights, spreads = [mean for mean, _ in known], [deviation for _, deviation in known]
        colour = MODELS[place % len(MODELS)]
        axes.bar(x, heights, width, yerr=spreads, color=colour, label=_name(model), error_kw={"linewidth": 0.6})
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_xticks(range(len(columns)), [_title(column).split("\n")[0] for column in columns], fontsize=TEXT)
    axes.tick_params(length=2, pad=2, labelsize=TEXT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
