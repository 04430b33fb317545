"""Pages of HTML that open without a network; whatever is put into a template is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from fedledger.learning.label_counts import EFFECTIVE, LabelCounts
from fedledger.protocol.text import shown

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MAX_PARTICIPANTS = 40
MAX_CLASSES = 100
_NUMBERED_CLASSES = 20


def write_page(path: Path, title: str, subtitle: str, parts: Sequence[Markup | Figure]) -> None:
    """Write a page.

    Parameters
    ----------
    path
        The file.
    title, subtitle
        Plain text.
    parts
        What follows, in order: markup, or plotly figures. With any of these the page holds plotly's own code, 5 MB.
    """
    script = ""
    if not all(isinstance(part, str) for part in parts):
        from plotly.offline import get_plotlyjs

        script = get_plotlyjs()
    body = [part if isinstance(part, str) else _drawn(part) for part in parts]
    page = render("page.html", title=title, subtitle=subtitle, script=Markup(script), body=body)
    path.write_text(page, encoding="utf-8")


def render(template: str, **values: object) -> Markup:
    """Fill a template of this package with values; those that are not markup are escaped."""
    return Markup(_environment().get_template(template).render(**values))


def table(rows: Sequence[Mapping[str, object]]) -> Markup:
    """Return rows as markup, with their keys as the heading."""
    return render("table.html", names=list(rows[0]) if rows else [], rows=[list(row.values()) for row in rows])


def plain(text: str) -> str:
    """Return a text for a figure, in which plotly finds no markup."""
    return str(escape(shown(text)))


def heat_map(labels: LabelCounts) -> Markup:
    """Return a map of examples by participant and class, or tenth of the numbers to predict, as markup.

    Of more than ``MAX_PARTICIPANTS`` participants it shows quantiles by size, the largest and the smallest included; of
    more than ``MAX_CLASSES`` classes the most frequent.
    """
    shown = labels.sample(MAX_PARTICIPANTS)
    columns = list(range(labels.classes))
    notes = []
    if len(shown) < labels.participants:
        notes.append(f"{len(shown)} of {labels.participants:,} participants, evenly by size")
    if labels.classes > MAX_CLASSES:
        frequent = (-labels.counts.sum(axis=0)).argsort(kind="stable")[:MAX_CLASSES]
        columns = sorted(frequent.tolist())
        notes.append(f"the {MAX_CLASSES} most frequent of {labels.classes:,} classes")
    counts = labels.counts[shown][:, columns]
    rows = zip(shown.tolist(), counts.tolist(), labels.sizes[shown], labels.effective_classes[shown], strict=True)
    return render(
        "heat_map.html",
        kind=labels.kind,
        effective=EFFECTIVE.get(labels.kind, "").replace("_", " "),
        note="; ".join(notes),
        names=[labels.names[column] for column in columns],
        rows=list(rows),
        most=max(int(labels.counts[shown].max(initial=0)), 1),
        numbered=len(columns) <= _NUMBERED_CLASSES,
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _seen(value: object) -> object:
    """Return what a template shows for a value: of a text only what can be seen."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _drawn(figure: Any) -> Markup:
    # Plotly writes the figure as JSON in which no character can end the script.
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False))
