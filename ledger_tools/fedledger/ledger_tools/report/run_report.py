"""A run's report as one HTML file that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fedledger.ledger_tools.audit.check_view import FAILED, OPEN, PASSED, WITHOUT_EFFECT
from fedledger.ledger_tools.audit.score_view import FAR, IN_TIME, SCORED, SILENT
from fedledger.ledger_tools.report.device_tables import device_figures
from fedledger.ledger_tools.report.page import heat_map, plain, render, write_page
from fedledger.ledger_tools.report.run_view import RunView
from fedledger.ledger_tools.report.tables import (
    outcomes_frame,
    pay_frame,
    reputations_frame,
    scorers_frame,
    verdicts_frame,
)
from fedledger.ledger_tools.report.task_view import losses

MAX_REFUSALS = 500
MAX_LINES = 20
_COLOURS = {
    "accepted": "#7cc08f",
    "missed": "#d5d8e0",
    "late": "#a9adba",
    "held_out": "#b3261e",
    "cosine": "#e8762d",
    "norm": "#f2b134",
    "duplicate": "#7b4fa3",
    "no_work": "#1f78b4",
    "harm": "#7f0f0f",
    "outvoted": "#c2185b",
}
_MALFORMED = "#3b3f4a"
_OF_SCORERS = {SCORED: "#7cc08f", IN_TIME: "#f2b134", SILENT: "#a9adba", FAR: "#b3261e"}
_OF_CHECKS = {PASSED: "#7cc08f", OPEN: "#f2b134", WITHOUT_EFFECT: "#a9adba", FAILED: "#b3261e"}


def write_report(path: Path, view: RunView) -> None:
    """Write the report of a run.

    Parameters
    ----------
    path
        The file.
    view
        The run; of its refused updates the page shows the first ``MAX_REFUSALS``.
    """
    behaviours = view.behaviours
    names = {address: plain(f"{address[:8]}… {behaviour}") for address, behaviour in behaviours.items()}
    reputations, pay = reputations_frame(view.task), pay_frame(view.task)
    told = f"{view.task.reputation_name.capitalize()} after each round"
    figures = [
        _by_round("score", view.score_name, view.metrics, view.plain_mean),
        _by_round("loss", view.loss_name, view.metrics),
        _lines(told, "reputation", reputations / 1_000_000, names, behaviours),
        _verdicts(view, names),
        *_checks(view, names),
        *_scorers(view, names),
        _lines("Cumulative pay", "credit units", pay.cumsum(), names, behaviours),
        _gas(view.metrics),
        *(device_figures(view.metrics, view.devices, names, view.score_name) if view.devices else ()),
    ]
    people = render(
        "participants.html",
        participants=view.task.participants,
        reputation=view.task.reputation_name,
        behaviours=behaviours,
        losses=losses,
        checked=view.task.checks is not None and view.task.checks.rate > 0,
        refusals=view.refusals[:MAX_REFUSALS],
        more=len(view.refusals) - MAX_REFUSALS,
    )
    facts = render("facts.html", facts=view.facts)
    parts = [facts, *figures, heat_map(view.labels), people]
    write_page(path, view.summary["name"], "fedledger run report", parts)


def _by_round(column: str, name: str, metrics: Sequence[Mapping[str, Any]], plain_mean: Sequence[float] = ()) -> Any:
    from plotly import graph_objects as go

    rounds = [row["round"] for row in metrics]
    named = plain(name)
    figure = go.Figure(layout={"title": f"Test {named}", "xaxis_title": "round", "yaxis_title": named})
    figure.add_scatter(x=rounds, y=[row[column] for row in metrics], name="fedledger", mode="lines+markers")
    if plain_mean:
        figure.add_scatter(
            x=list(range(1, len(plain_mean) + 1)),
            y=list(plain_mean),
            name="plain mean, no defence",
            mode="lines",
        )
    return figure


def _gas(metrics: Sequence[Mapping[str, Any]]) -> Any:
    from plotly import graph_objects as go

    totals = [row["gas"] for row in metrics]
    each = [after - before for before, after in zip([totals[0], *totals], totals, strict=False)] if totals else []
    figure = go.Figure(layout={"title": "Gas of each round", "xaxis_title": "round", "yaxis_title": "gas"})
    figure.add_bar(x=[row["round"] for row in metrics][1:], y=each[1:], name="gas")
    return figure


def _lines(title: str, unit: str, frame: pd.DataFrame, names: Mapping[str, str], behaviours: Mapping[str, str]) -> Any:
    """Draw one line per participant; of many, the median of each behaviour and the middle four fifths."""
    from plotly import graph_objects as go

    figure = go.Figure(layout={"title": title, "xaxis_title": "round", "yaxis_title": unit})
    rounds = list(frame.index)
    if len(frame.columns) <= MAX_LINES:
        for address in frame.columns:
            dash = "solid" if behaviours[address] == "honest" else "dash"
            figure.add_scatter(x=rounds, y=frame[address].tolist(), name=names[address], line={"dash": dash})
        return figure
    palette = figure.layout.template.layout.colorway
    groups = [(str(behaviour), group) for behaviour, group in frame.T.groupby(lambda address: behaviours[address])]
    for (behaviour, group), colour in zip(groups, palette * len(groups), strict=False):
        low, median, high = (group.quantile(q).tolist() for q in (0.1, 0.5, 0.9))
        band = {"line": {"width": 0, "color": colour}, "mode": "lines", "legendgroup": behaviour}
        figure.add_scatter(x=rounds, y=low, showlegend=False, **band)
        figure.add_scatter(x=rounds, y=high, fill="tonexty", name=f"{behaviour}, middle 80 %", opacity=0.3, **band)
        line = {"color": colour, "dash": "solid" if behaviour == "honest" else "dash"}
        figure.add_scatter(
            x=rounds, y=median, name=f"{behaviour}, median", line=line, mode="lines", legendgroup=behaviour
        )
    return figure


def _verdicts(view: RunView, names: Mapping[str, str]) -> Any:
    """Draw a map of verdicts, which says why to whoever points at one."""
    reasons = {(row.address, row.round): plain(f" ({row.detail})") for row in view.refusals if row.detail}
    return _map(
        "Verdicts", _Words(verdicts_frame(view.task), _COLOURS, "not selected", reasons), names, view.behaviours
    )


def _checks(view: RunView, names: Mapping[str, str]) -> list[Any]:
    """Draw a map of spot checks, if there were any, which says how each stands to whoever points at one."""
    checks = view.task.checks
    if checks is None or not checks.rows:
        return []
    states = {(row.address, row.round): f" ({row.state}; auditor {row.auditor})" for row in checks.rows}
    words = _Words(outcomes_frame(view.task), _OF_CHECKS, "not checked", states)
    return [_map("Spot checks", words, names, view.behaviours)]


def _scorers(view: RunView, names: Mapping[str, str]) -> list[Any]:
    """Draw a map of who scored, if anybody was drawn among the participants."""
    scores = view.task.scores
    if scores is None or scores.from_verifiers or not any(row.scorers for row in scores.rows):
        return []
    details = {
        (address, row.round): f" ({row.updates} updates, {len(row.outvoted)} outvoted)"
        for row in scores.rows
        for address in row.scorers
    }
    words = _Words(scorers_frame(view.task), _OF_SCORERS, "not drawn", details)
    return [_map("Scorers", words, names, view.behaviours)]


@dataclass(frozen=True)
class _Words:
    """A word for each round and address, with the colour of each, the word for none, and what is told besides."""

    frame: pd.DataFrame
    colours: Mapping[str, str]
    none: str
    details: Mapping[tuple[str, int], str]


def _map(title: str, known: _Words, names: Mapping[str, str], behaviours: Mapping[str, str]) -> Any:
    """Draw a map of words, participants by behaviour."""
    from plotly import graph_objects as go

    frame = known.frame
    addresses = sorted(frame.columns, key=lambda address: (behaviours[address] != "honest", behaviours[address]))
    words = frame[addresses].T.astype(object).where(frame[addresses].T.notna(), known.none)
    labels = sorted(set(words.to_numpy().ravel()), key=lambda word: [*known.colours, word].index(word))
    colours = [known.colours.get(label, "#ffffff" if label == known.none else _MALFORMED) for label in labels]
    many = len(addresses) > MAX_LINES
    figure = go.Figure(layout={"title": title, "xaxis_title": "round"})
    figure.add_heatmap(
        x=list(frame.index),
        y=[names[address] for address in addresses],
        z=[[labels.index(word) for word in row] for row in words.to_numpy()],
        text=words.to_numpy().tolist(),
        customdata=[[known.details.get((address, index), "") for index in frame.index] for address in addresses],
        hovertemplate="round %{x}, %{y}: %{text}%{customdata}<extra></extra>",
        xgap=0 if many else 2,
        ygap=0 if many else 2,
        zmin=-0.5,
        zmax=len(labels) - 0.5,
        colorscale=[[(place + end) / len(labels), colour] for place, colour in enumerate(colours) for end in (0, 1)],
        colorbar={"tickvals": list(range(len(labels))), "ticktext": labels},
    )
    figure.update_yaxes(showticklabels=not many, autorange="reversed", automargin=True)
    return figure
