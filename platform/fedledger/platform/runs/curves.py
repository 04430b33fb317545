"""Scores by round of several runs: figures over seeds, and their plot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

Curve = Sequence[tuple[int, float]]
"""Round and score after it."""


@dataclass(frozen=True)
class Spread:
    """Mean and spread of a sample.

    Parameters
    ----------
    n
        Its size.
    mean
        None of an empty sample.
    sd
        The sample's standard deviation, with n − 1 in the denominator; None of fewer than two.
    se
        The mean's standard error, sd / √n.
    """

    n: int
    mean: float | None
    sd: float | None
    se: float | None

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the figures of a sample."""
        sample = list(values)
        sd = stdev(sample) if len(sample) > 1 else None
        return cls(
            len(sample), fmean(sample) if sample else None, sd, None if sd is None else sd / math.sqrt(len(sample))
        )

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        return asdict(self)

    def shown(self, form: str) -> str:
        """Return mean ± standard deviation in words, each in the given format."""
        if self.mean is None:
            return "–"
        return format(self.mean, form) + ("" if self.sd is None else f" ± {format(self.sd, form)}")


def rounds_to(curve: Curve, target: float, lower_is_better: bool = False) -> int | None:
    """Return the first round whose score is as good as ``target``, or None."""
    return next((index for index, score in curve if (score <= target if lower_is_better else score >= target)), None)


def over_seeds(curves: Iterable[Curve]) -> list[tuple[int, Spread]]:
    """Return each round with the spread of the scores of those curves that have it."""
    by_round: dict[int, list[float]] = {}
    for curve in curves:
        for index, score in curve:
            by_round.setdefault(index, []).append(score)
    return [(index, Spread.of(by_round[index])) for index in sorted(by_round)]


def common_name(names: Iterable[str]) -> str:
    """Return what the scores of several runs are called together."""
    different = set(names)
    return different.pop() if len(different) == 1 else "score"


def score_figure(groups: Mapping[str, Sequence[Curve]], score_name: str) -> Any:
    """Draw one line per group: its mean, in a band of one standard deviation over its curves."""
    from plotly import graph_objects as go

    from fedledger.ledger_tools.report.page import plain

    named = plain(score_name)
    figure = go.Figure(layout={"title": f"Test {named}", "xaxis_title": "round", "yaxis_title": named})
    palette = figure.layout.template.layout.colorway
    for place, (group, curves) in enumerate(groups.items()):
        name = plain(group)
        colour = palette[place % len(palette)]
        points = over_seeds(curves)
        rounds = [index for index, _ in points]
        means = [spread.mean or 0.0 for _, spread in points]
        if len(curves) > 1:
            deviations = [spread.sd or 0.0 for _, spread in points]
            edge = {"mode": "lines", "line": {"width": 0, "color": colour}, "legendgroup": name, "hoverinfo": "skip"}
            low = [mean - sd for mean, sd in zip(means, deviations, strict=True)]
            high = [mean + sd for mean, sd in zip(means, deviations, strict=True)]
            figure.add_scatter(x=rounds, y=low, showlegend=False, **edge)
            figure.add_scatter(x=rounds, y=high, fill="tonexty", opacity=0.3, showlegend=False, **edge)
        over = f" (n = {len(curves)}, ± 1 sd)" if len(curves) > 1 else ""
        figure.add_scatter(
            x=rounds, y=means, name=f"{name}{over}", mode="lines", line={"color": colour}, legendgroup=name
        )
    return figure
