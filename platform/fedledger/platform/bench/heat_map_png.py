"""Heat maps of the bench as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedledger.platform.bench.heat_map import Cell, Facet, HeatMap, cell_text
from fedledger.protocol.text import shown

COLOURS = "YlGnBu"
"""A scale from light to dark that reads the same without colour vision, and in grey."""
DARK = 0.55
"""Above this shade texts are white."""
FRAME = "#d55e00"
NO_FIGURE = "#e8e8e8"
DPI = 150
CELL_WIDTH, CELL_HEIGHT, LETTER, LINE = 0.42, 0.2, 0.068, 0.17
"""Sizes in inches; a letter is as wide as of a text of 7 points at most."""
GAP, MARGIN = 0.25, 0.15
TEXT, SMALL, TITLE = 7.0, 6.0, 10.0
LONGEST = 32
"""Letters of a name, at most: of a longer one, such as a path, the end is shown."""


@dataclass(frozen=True)
class _Layout:
    """Where facets lie, in inches from the upper left corner.

    Parameters
    ----------
    rows, columns
        Attacks with the summary, and pipelines, of each facet.
    down, across
        Facets one below and beside another.
    left, above
        Room for the names of attacks and of pipelines.
    caption
        Lines of the caption.
    """

    rows: int
    columns: int
    down: int
    across: int
    left: float
    above: float
    caption: int = 0

    @classmethod
    def of(cls, shown_map: HeatMap) -> _Layout:
        facets = shown_map.facets
        first = facets[0][0]
        return cls(
            rows=len(first.attacks) + len(first.summary),
            columns=len(first.pipelines),
            down=len(facets),
            across=len(facets[0]),
            left=LETTER * max(len(_name(each)) for each in (*first.attacks, *first.summary)) + 0.1,
            above=LETTER * max(len(_name(each)) for each in first.pipelines) + 0.1,
        )

    @property
    def facet(self) -> tuple[float, float]:
        """Width and height of a facet's cells."""
        return CELL_WIDTH * self.columns, CELL_HEIGHT * (self.rows + 0.5)

    @property
    def width(self) -> float:
        """Of the picture; its caption needs some."""
        return max(MARGIN + self.left + self.across * (self.facet[0] + GAP), 6.0)

    @property
    def letters(self) -> int:
        """How many letters a line of the caption has."""
        return int((self.width - 2 * MARGIN) / (LETTER * 0.85))

    @property
    def top(self) -> float:
        """Room for the title."""
        return MARGIN + 0.3

    def height(self, lines: int) -> float:
        """Return the height of a picture whose caption has so many lines."""
        below = 0.65 + LINE * lines + MARGIN
        return self.top + self.above + self.down * (self.facet[1] + LINE) + (self.down - 1) * GAP + below

    def place(self, down: int, across: int) -> tuple[float, float]:
        """Return the upper left corner of a facet's cells."""
        width, height = self.facet
        x = MARGIN + self.left + across * (width + GAP)
        return x, self.top + self.above + LINE + down * (height + GAP + LINE)


def write_png(path: Path, shown_map: HeatMap) -> None:
    """Draw a heat map into a PNG file."""
    layout = _Layout.of(shown_map)
    caption = fill(shown_map.caption, layout.letters)
    height = layout.height(caption.count("\n") + 1)
    figure = Figure(figsize=(layout.width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(MARGIN / layout.width, 1 - MARGIN / height, shown_map.title, fontsize=TITLE, va="top", weight="bold")
    for down, facets in enumerate(shown_map.facets):
        for across, facet in enumerate(facets):
            _draw(figure, facet, layout, (down, across))
    _scale(figure, shown_map, layout, height, caption.count("\n") + 1)
    figure.text(MARGIN / layout.width, MARGIN / height, caption, fontsize=TEXT, va="bottom", linespacing=1.4)
    # Without the name of the library and its version two pictures of the same figures are the same bytes.
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _axes(figure: Figure, left: float, top: float, size: tuple[float, float]) -> Axes:
    """Return axes at a place in inches from the upper left corner."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, 1 - (top + size[1]) / height, size[0] / width, size[1] / height))


def _draw(figure: Figure, facet: Facet, layout: _Layout, place: tuple[int, int]) -> None:
    left, top = layout.place(*place)
    width, rows = layout.facet[0], len(facet.attacks)
    axes = _axes(figure, left, top, (width, CELL_HEIGHT * rows))
    cells = [[facet.cell(attack, pipeline) for pipeline in facet.pipelines] for attack in facet.attacks]
    _draw_cells(axes, facet, cells)
    axes.set_title(f"{facet.population}, {facet.division}", fontsize=TEXT, loc="left", pad=3, weight="bold")
    if place[0] == 0:
        # Above the title of the first facet of a column.
        for column, pipeline in enumerate(facet.pipelines):
            offset = -0.5 - LINE / CELL_HEIGHT - 0.2
            axes.text(column, offset, _name(pipeline), fontsize=TEXT, rotation=90, ha="center", va="bottom")
    for column, pipeline in enumerate(facet.pipelines):
        worst = facet.worst(pipeline)
        if worst is not None:
            corner = column - 0.46, facet.attacks.index(worst) - 0.44
            axes.add_patch(Rectangle(corner, 0.92, 0.88, fill=False, edgecolor=FRAME, linewidth=1.6))
    below_rows = len(facet.summary)
    below = _axes(figure, left, top + CELL_HEIGHT * (rows + 0.5), (width, CELL_HEIGHT * below_rows))
    _draw_cells(below, facet, [*facet.summary.values()])
    if place[1] == 0:
        axes.set_yticks(range(rows), [_name(attack) for attack in facet.attacks], fontsize=TEXT)
        below.set_yticks(range(below_rows), [*facet.summary], fontsize=TEXT, weight="bold")


def _draw_cells(axes: Axes, facet: Facet, cells: Sequence[Sequence[Cell]]) -> None:
    """Draw cells with their texts."""
    values = [[np.nan if cell.mean is None else facet.shade(cell.mean) for cell in row] for row in cells]
    shades = np.array(values, np.float64)
    colours = colormaps[COLOURS].with_extremes(bad=NO_FIGURE)
    axes.imshow(np.ma.masked_invalid(shades), cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for row, column in np.ndindex(shades.shape):
        colour = "white" if shades[row, column] > DARK else "black"
        text = cell_text(cells[row][column], facet.shade)
        axes.text(column, row, text, fontsize=SMALL, ha="center", va="center", color=colour)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _scale(figure: Figure, shown_map: HeatMap, layout: _Layout, height: float, lines: int) -> None:
    """Draw the scale of the shades, above the caption."""
    size = (min(4.0, layout.width - 4 * MARGIN), 0.12)
    axes = _axes(figure, 2 * MARGIN, height - MARGIN - LINE * lines - 0.45, size)
    colours = np.linspace(0, 1, 256)[None]
    axes.imshow(colours, cmap=COLOURS, vmin=0, vmax=1, aspect="auto", extent=(0, 1, 0, 1))
    shade = shown_map.shade
    axes.set_xticks([*map(shade, shade.ticks)], [*map(shade.text, shade.ticks)], fontsize=TEXT)
    axes.set_yticks([])
    axes.tick_params(length=2, pad=2)


def _name(text: str) -> str:
    """Return a name as it fits: what cannot be seen is written out, and a $ starts no formula."""
    seen = shown(text).replace("$", r"\$")
    return seen if len(seen) <= LONGEST else f"…{seen[1 - LONGEST :]}"
