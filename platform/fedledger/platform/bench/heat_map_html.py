"""Heat maps of the bench as pages that need no network, whose cells tell more under the pointer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.colors import to_hex

from fedledger.ledger_tools.report.page import plain, write_page
from fedledger.platform.bench.heat_map import Cell, Facet, HeatMap, cell_text
from fedledger.platform.bench.heat_map_png import COLOURS, FRAME, NO_FIGURE

CELL_HEIGHT, LETTER, MARGIN, ABOVE, TITLE, STANDOFF = 22, 7, 20, 36, 26, 5
"""Sizes in pixels."""
STEPS = 16
"""Of the scale of colours."""


def write_html(path: Path, shown_map: HeatMap) -> None:
    """Draw a heat map into a page, with a figure for each facet."""
    figures = [_drawn(facet) for facets in shown_map.facets for facet in facets]
    write_page(path, shown_map.title, shown_map.caption, figures)


def _drawn(facet: Facet) -> Any:
    from plotly import graph_objects as go

    names = [plain(pipeline) for pipeline in facet.pipelines]
    rows = [*facet.attacks, *(f"<b>{name}</b>" for name in facet.summary)]
    above = LETTER * max(map(len, facet.pipelines)) + ABOVE + TITLE
    figure = go.Figure(
        _cells(facet),
        layout={
            "title": {"text": plain(f"{facet.population}, {facet.division}"), "x": 0, "y": 0.99, "yanchor": "top"},
            "height": above + CELL_HEIGHT * len(rows) + 2 * MARGIN,
            "margin": {"l": MARGIN, "r": MARGIN, "b": MARGIN, "t": above},
            "font": {"size": 11},
            "plot_bgcolor": NO_FIGURE,
        },
    )
    # Names of pipelines may be alike once they are shown, so that places are numbers.
    both = {"showgrid": False, "zeroline": False, "ticklabelstandoff": STANDOFF}
    figure.update_xaxes(tickvals=[*range(len(names))], ticktext=names, side="top", tickangle=-90, **both)
    figure.update_yaxes(tickvals=[*range(len(rows))], ticktext=rows, autorange="reversed", automargin=True, **both)
    for place, pipeline in enumerate(facet.pipelines):
        worst = facet.worst(pipeline)
        if worst is not None:
            row = facet.attacks.index(worst)
            edges = {"x0": place - 0.47, "x1": place + 0.47, "y0": row - 0.45, "y1": row + 0.45}
            figure.add_shape(type="rect", line={"color": FRAME, "width": 2}, **edges)
    return figure


def _cells(facet: Facet) -> Any:
    """Return the cells of a facet as plotly draws them."""
    from plotly import graph_objects as go

    shade, colours = facet.shade, colormaps[COLOURS]
    rows = {attack: [facet.cell(attack, pipeline) for pipeline in facet.pipelines] for attack in facet.attacks}
    named = [*rows.items(), *facet.summary.items()]
    return go.Heatmap(
        z=[[None if cell.mean is None else shade(cell.mean) for cell in cells] for _, cells in named],
        text=[[cell_text(cell, shade) for cell in cells] for _, cells in named],
        customdata=[
            [_told(cell, pipeline, name, facet) for pipeline, cell in zip(facet.pipelines, cells, strict=True)]
            for name, cells in named
        ],
        texttemplate="%{text}",
        hovertemplate="%{customdata}<extra></extra>",
        colorscale=[[place / STEPS, to_hex(colours(place / STEPS))] for place in range(STEPS + 1)],
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        colorbar={
            "tickvals": [shade(value) for value in shade.ticks],
            "ticktext": [shade.text(value) for value in shade.ticks],
        },
    )


def _told(cell: Cell, pipeline: str, attack: str, facet: Facet) -> str:
    """Return what a cell tells under the pointer."""
    lines = [f"{pipeline}, {attack}"]
    if cell.mean is not None:
        lines.append(f"mean {facet.shade.text(cell.mean)} ({cell.mean:.4f})")
    if cell.worst is not None and cell.deviation is not None:
        lines.append(f"worst seed {cell.worst_seed}: {facet.shade.text(cell.worst)} ({cell.worst:.4f})")
        lines.append(f"standard deviation {cell.deviation:.4f}, {cell.seeds} seeds")
    if cell.error is not None:
        lines.append(cell.error)
    return "<br>".join(map(plain, lines))
