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

    shade, pipelines, colours = facet.shade, facet.pipelines, colormaps[COLOURS]
    rows = {attack: [facet.cell(attack, pipeline) for pipeline in pipelines] for attack in facet.attacks}
    rows |= {f"<b>{name}</b>": cells for name, cells in facet.summary.items()}
    told = [
        [_told(cell, pipeline, name, facet) for pipeline, cell in zip(pipelines, cells, strict=True)]
        for name, cells in (*zip(facet.attacks, rows.values(), strict=False), *facet.summary.items())
    ]
    drawn = go.Heatmap(
        z=[[None if cell.mean is None else shade(cell.mean) for cell in cells] for cells in rows.values()],
        text=[[cell_text(cell, shade) for cell in cells] for cells in rows.values()],
        customdata=told,
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
    letters = max(len(pipeline) for pipeline in pipelines)
    figure = go.Figure(
        drawn,
        layout={
            "title": {"text": plain(f"{facet.population}, {facet.division}"), "x": 0, "y": 0.99, "yanchor": "top"},
            "height": LETTER * letters + CELL_HEIGHT * len(rows) + 2 * MARGIN + ABOVE + TITLE,
            "margin": {"l": MARGIN, "r": MARGIN, "b": MARGIN, "t": LETTER * letters + ABOVE + TITLE},
            "font": {"size": 11},
            "plot_bgcolor": NO_FIGURE,
        },
    )
    # Names of pipelines may be alike once they are shown, so that places are numbers.
    names = [plain(pipeline) for pipeline in pipelines]
    both = {"showgrid": False, "zeroline": False, "ticklabelstandoff": STANDOFF}
    figure.update_xaxes(tickvals=[*range(len(names))], ticktext=names, side="top", tickangle=-90, **both)
    figure.update_yaxes(tickvals=[*range(len(rows))], ticktext=[*rows], autorange="reversed", automargin=True, **both)
    for place, pipeline in enumerate(pipelines):
        worst = facet.worst(pipeline)
        if worst is not None:
            row = facet.attacks.index(worst)
            edges = {"x0": place - 0.47, "x1": place + 0.47, "y0": row - 0.45, "y1": row + 0.45}
            figure.add_shape(type="rect", line={"color": FRAME, "width": 2}, **edges)
    return figure


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
