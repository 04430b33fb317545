"""Pages of HTML that open without a network: the frame, and how data are divided."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedledger.learning.label_counts import LabelCounts

MAX_PARTICIPANTS = 40
MAX_CLASSES = 100
_NUMBERED_CLASSES = 20
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; color: #1f2430 }
h1 { margin-bottom: 0 } .sub { color: #667 } table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #dde } td.n { text-align: right }
code { font-size: 12px; overflow-wrap: anywhere } .attack { color: #b3261e } .honest { color: #1b6e3c }
.map td, .map th { text-align: center; padding: .1rem .3rem; font-size: 12px; border: 1px solid #fff }
"""


def write_page(path: Path, title: str, subtitle: str, parts: Sequence[Any]) -> None:
    """Write a page.

    Parameters
    ----------
    path
        The file.
    title, subtitle
        Text.
    parts
        What follows, in order: markup, or plotly figures. With any of these the page holds plotly's own code, 5 MB.
    """
    script = ""
    if not all(isinstance(part, str) for part in parts):
        from plotly.offline import get_plotlyjs

        script = f"<script>{get_plotlyjs()}</script>"
    body = "".join(
        part if isinstance(part, str) else part.to_html(full_html=False, include_plotlyjs=False) for part in parts
    )
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escaped(title)}</title><style>{_STYLE}</style>"
        f"{script}<h1>{escaped(title)}</h1><p class=sub>{escaped(subtitle)}</p>{body}</html>",
        encoding="utf-8",
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as markup, with their keys as the heading."""
    head = "".join(f"<th>{escaped(name)}" for name in (rows[0] if rows else ()))
    body = "".join(f"<tr>{''.join(f'<td>{escaped(value)}</td>' for value in row.values())}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def heat_map(labels: LabelCounts) -> str:
    """Return a map of examples by participant and class as markup.

    Of more than ``MAX_PARTICIPANTS`` participants it shows quantiles by size, the largest and the smallest included; of
    more than ``MAX_CLASSES`` classes the most frequent.
    """
    rows = labels.sample(MAX_PARTICIPANTS)
    columns = list(range(labels.classes))
    notes = []
    if len(rows) < labels.participants:
        notes.append(f"{len(rows)} of {labels.participants:,} participants, evenly by size")
    if labels.classes > MAX_CLASSES:
        frequent = (-labels.counts.sum(axis=0)).argsort(kind="stable")[:MAX_CLASSES]
        columns = sorted(frequent.tolist())
        notes.append(f"the {MAX_CLASSES} most frequent of {labels.classes:,} classes")
    most = max(int(labels.counts[rows].max(initial=0)), 1)
    sizes, effective = labels.sizes, labels.effective_classes
    numbered = len(columns) <= _NUMBERED_CLASSES
    body = "".join(
        f"<tr><th>{number}</th>"
        + "".join(
            _cell(int(labels.counts[number, c]), most, f"participant {number}, class {c}", numbered) for c in columns
        )
        + f"<td>{sizes[number]:,}</td><td>{effective[number]:.2f}</td></tr>"
        for number in rows.tolist()
    )
    note = f"<p class=sub>{'; '.join(notes)}</p>" if notes else ""
    heads = (f"<th>{c if numbered else ''}" for c in columns)
    return (
        f"<h2>Examples by participant and class</h2>{note}<table class=map><tr><th>participant{''.join(heads)}"
        f"<th>examples<th>effective classes</tr>{body}</table>"
    )


def escaped(value: Any) -> str:
    """Return text that a page shows as it is."""
    return html.escape(str(value))


def _cell(count: int, most: int, where: str, numbered: bool) -> str:
    share = count / most
    ink = "#fff" if share > 0.55 else "#1f2430"
    colour = f"background:rgba(23,78,166,{share:.2f});color:{ink}"
    return f"<td style='{colour}' title='{where}: {count}'>{count if numbered else ''}</td>"
