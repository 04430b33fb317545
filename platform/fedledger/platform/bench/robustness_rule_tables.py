"""Aggregation rules against attacks, in tables: what each attack costs each rule, and which attacks pass which rule."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fedledger.platform.bench.attack_suite import NONE
from fedledger.platform.bench.heat_map import FAILED, Facet, HeatMap, cell_text
from fedledger.platform.bench.robustness import RobustnessRow
from fedledger.platform.bench.robustness_tables import COMMAND, NOTHING
from fedledger.platform.bench.tables import between_marks, markdown_table
from fedledger.protocol.errors import ConfigError

RULES_COMMAND = f"{COMMAND} rules"
"""The marks of the tables."""
PASSES = 0.05
"""The accuracy that an attack costs which passes."""
MOST_ATTACKS = 12
"""Of more attacks a table shows the mean and the worst alone."""


def with_rule_tables(document: str, rows: Sequence[RobustnessRow], picture: Path | None = None) -> str:
    """Return a document in Markdown with the tables of these rows between its marks.

    Parameters
    ----------
    document
        The document's text.
    rows
        The runs.
    picture
        A heat map of them, as the document refers to it.

    Raises
    ------
    ConfigError
        If it has no such marks, or there are no rows.
    """
    if not any(row.error is None for row in rows):
        raise ConfigError("There is nothing to write: no run has an end.", "Look at the errors in the rows.")
    shown_map = HeatMap(rows)
    text = f"{shown_map.title}: {shown_map.over}.\n\n"
    if any(row.error is not None for row in rows):
        text += f"{FAILED}: a run failed, as where the participants are too few for the rule.\n\n"
    if picture is not None:
        text += f"![{shown_map.title}]({Path(picture).as_posix()})\n\n"
    facets = [facet for population in shown_map.facets for facet in population]
    for facet in facets:
        text += f"**{_name(facet)}**\n\n{markdown_table([_costs(facet, each) for each in facet.pipelines])}\n"
    passing = [{"pipeline": each, **{_name(f): _passing(f, each) for f in facets}} for each in facets[0].pipelines]
    text += f"**Attacks that cost at least {100 * PASSES:g} points**\n\n{markdown_table(passing)}\n"
    return between_marks(document, RULES_COMMAND, text)


def picture_for(document: Path, pictures: Sequence[Path]) -> Path | None:
    """Return the first picture that a document in Markdown can show, as it refers to it; None if there is none."""
    shown = [picture for picture in pictures if picture.suffix == ".png"]
    return Path(os.path.relpath(shown[0], document.parent)) if shown else None


def _name(facet: Facet) -> str:
    return f"{facet.population}, {facet.division}"


def _costs(facet: Facet, pipeline: str) -> dict[str, str]:
    """Return a pipeline's row: what each attack costs it, and all of them in the mean, in points of accuracy."""
    cells = {"pipeline": pipeline}
    few = len(facet.attacks) <= MOST_ATTACKS
    for attack in facet.attacks if few else [each for each in facet.attacks if each == NONE]:
        cells[attack] = cell_text(facet.cell(attack, pipeline), facet.shade)
    mean, worst = facet.mean(pipeline), facet.worst(pipeline)
    cells["mean of the attacks"] = NOTHING if mean is None else facet.shade.text(mean)
    cells["worst"] = NOTHING if worst is None else f"{cell_text(facet.cell(worst, pipeline), facet.shade)} ({worst})"
    return cells


def _passing(facet: Facet, pipeline: str) -> str:
    """Return the attacks that pass a pipeline, and that some were not played."""
    found = ((attack, facet.cell(attack, pipeline)) for attack in facet.attacks if attack != NONE)
    cells = [(attack, cell) for attack, cell in found if cell.mean is None or cell.mean >= PASSES]
    passing = [attack for attack, cell in cells if cell.mean is not None]
    unknown = [FAILED] if any(cell.mean is None and cell.error is not None for _, cell in cells) else []
    return ", ".join(passing + unknown) or NOTHING
