"""What a heat map of the bench shows: attacks by pipelines, in a facet for each population and division of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import copysign, sqrt
from pathlib import Path
from statistics import fmean, pstdev

from fedledger.platform.bench.attack_suite import NONE
from fedledger.platform.bench.robustness import IID, RobustnessRow
from fedledger.platform.bench.robustness_goals import behind
from fedledger.platform.bench.robustness_tables import Figure, populations_in
from fedledger.protocol.errors import ConfigError

NOTHING, FAILED = "–", "×"
"""What a cell shows that has no such figure, and one whose runs failed."""


@dataclass(frozen=True)
class Shade:
    """How dark a figure is: the darker, the worse.

    Parameters
    ----------
    of
        Rises the worse a value is: 0 is as good as can be, 1 as bad; what is beyond is drawn as these.
    ticks
        Values that the scale names.
    text
        A value in a cell.
    """

    of: Callable[[float], float]
    ticks: Sequence[float]
    text: Callable[[float], str]

    def __call__(self, value: float) -> float:
        """Return the shade of a value, within 0 and 1."""
        return min(1.0, max(0.0, self.of(value)))


@dataclass(frozen=True)
class ShownFigure:
    """A figure of runs that a heat map may show.

    Parameters
    ----------
    title
        What it is.
    of
        The figure of a run; None if it has none.
    shade
        How dark it is drawn.
    """

    title: str
    of: Figure
    shade: Shade


def _percent(value: float) -> str:
    return f"{100 * value:.1f}" if -0.0995 < value < 0.0995 else f"{100 * value:.0f}"


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 9.95 else f"{value:,.0f}" if abs(value) < 99_999 else f"{value:.0e}"


_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Of small losses one sees more than of large ones.
_LOSS = Shade(lambda value: copysign(sqrt(abs(value)), value), (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0), _percent)
_BAD_SHARE = Shade(lambda value: value, _QUARTERS, _percent)
_GOOD_SHARE = Shade(lambda value: 1 - value, _QUARTERS[::-1], _percent)

FIGURES: Mapping[str, ShownFigure] = {
    "lost": ShownFigure("accuracy lost against the oracle, points", behind, _LOSS),
    "accuracy": ShownFigure(
        "accuracy, %",
        lambda row: row.accuracy,
        Shade(lambda value: sqrt(max(0.0, 1 - value)), (1.0, 0.99, 0.95, 0.9, 0.75, 0.5, 0.0), _percent),
    ),
    "attack_success": ShownFigure("success of backdoors, %", lambda row: row.attack_success, _BAD_SHARE),
    "refused_honest": ShownFigure("honest updates refused, %", lambda row: row.refused_honest, _BAD_SHARE),
    "refused_hostile": ShownFigure("hostile updates refused, %", lambda row: row.refused_hostile, _GOOD_SHARE),
    "f1": ShownFigure("F1 of refusals, %", lambda row: row.f1, _GOOD_SHARE),
    "pay_ratio": ShownFigure(
        "pay of the best attacker over the honest median",
        lambda row: row.pay_ratio,
        # What an honest participant earns is the middle.
        Shade(lambda value: value / (1 + value) if value > 0 else 0.0, (0.0, 0.1, 0.5, 1.0, 3.0, 10.0), _short),
    ),
    "reputation_gap": ShownFigure(
        "lowest reputation of an honest participant minus the highest of an attacker",
        lambda row: row.reputation_gap,
        Shade(lambda value: (1 - value) / 2, (1.0, 0.5, 0.0, -0.5, -1.0), _short),
    ),
}
"""The figures by the names of their fields; ``lost`` is the oracle's accuracy minus a run's."""


@dataclass(frozen=True)
class Cell:
    """A figure of an attack against a pipeline, over the seeds.

    Parameters
    ----------
    mean, worst, deviation
        Its mean, the worst of a seed, and the standard deviation over the seeds; None without such a figure.
    worst_seed
        The seed of the worst.
    seeds
        How many runs have it.
    error
        Why a run failed.
    """

    mean: float | None = None
    worst: float | None = None
    deviation: float | None = None
    worst_seed: int | None = None
    seeds: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Facet:
    """The cells of one population and division of the data.

    Parameters
    ----------
    population, division
        What both are called.
    attacks, pipelines
        Rows and columns.
    cells
        By attack and pipeline.
    shade
        How dark a figure is drawn.
    """

    population: str
    division: str
    attacks: Sequence[str]
    pipelines: Sequence[str]
    cells: Mapping[tuple[str, str], Cell]
    shade: Shade

    def cell(self, attack: str, pipeline: str) -> Cell:
        """Return a cell; an empty one where nothing was played."""
        return self.cells.get((attack, pipeline), Cell())

    def worst(self, pipeline: str) -> str | None:
        """Return the attack that a pipeline stands worst, the first of several; None if no attack has a figure."""
        means = self._attacked(pipeline)
        return max(means, key=lambda attack: self.shade.of(means[attack]), default=None)

    def mean(self, pipeline: str) -> float | None:
        """Return a pipeline's mean over the attacks; None if no attack has a figure."""
        means = self._attacked(pipeline)
        return fmean(means.values()) if means else None

    @property
    def summary(self) -> dict[str, list[Cell]]:
        """The rows below: each pipeline's mean over the attacks, and its worst attack."""
        worst = [self.worst(pipeline) for pipeline in self.pipelines]
        return {
            "mean": [Cell(mean=self.mean(pipeline)) for pipeline in self.pipelines],
            "worst": [
                Cell() if attack is None else self.cell(attack, pipeline)
                for attack, pipeline in zip(worst, self.pipelines, strict=True)
            ],
        }

    def _attacked(self, pipeline: str) -> dict[str, float]:
        """Return the means of all that is an attack."""
        found = ((attack, self.cell(attack, pipeline).mean) for attack in self.attacks if attack != NONE)
        return {attack: mean for attack, mean in found if mean is not None}


@dataclass(frozen=True)
class HeatMap:
    """A figure of many runs.

    Parameters
    ----------
    rows
        The runs, at least one.
    figure
        The figure's name in ``FIGURES``.
    """

    rows: Sequence[RobustnessRow]
    figure: str = "lost"

    @property
    def title(self) -> str:
        """What the cells are."""
        return f"{FIGURES[self.figure].title[0].upper()}{FIGURES[self.figure].title[1:]}"

    @property
    def shade(self) -> Shade:
        """How dark a cell is."""
        return FIGURES[self.figure].shade

    @cached_property
    def facets(self) -> list[list[Facet]]:
        """The facets: a list for each population, in which one stands for each division of the data."""
        return [
            [self._facet(name, division, own) for division in dict.fromkeys(row.dirichlet for row in self.rows)]
            for name, own in populations_in(self.rows).items()
        ]

    @property
    def over(self) -> str:
        """Over which seeds figures are means."""
        seeds = sorted({row.seed for row in self.rows})
        return f"means over the seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"

    @property
    def caption(self) -> str:
        """How the picture is to be read, and what it was made of."""
        data = ", ".join(sorted({Path(row.data).name for row in self.rows}))
        rounds = ", ".join(map(str, sorted({row.rounds for row in self.rows if row.error is None}))) or "no"
        told = (
            f"Data: {data}; {rounds} rounds; {self.over}. The darker, the worse; framed: the worst "
            "attack against each pipeline. Below: the mean over all attacks, and the worst of them."
        )
        return told + (f" {FAILED}: a run failed." if any(row.error is not None for row in self.rows) else "")

    def _facet(self, population: str, division: float | str, rows: Sequence[RobustnessRow]) -> Facet:
        groups: dict[tuple[str, str], list[RobustnessRow]] = {}
        for row in rows:
            if row.dirichlet == division:
                groups.setdefault((row.attack, row.pipeline), []).append(row)
        return Facet(
            population=population,
            division="IID" if division == IID else f"Dirichlet {division}",
            attacks=list(dict.fromkeys(row.attack for row in self.rows)),
            pipelines=list(dict.fromkeys(row.pipeline for row in self.rows)),
            cells={place: self._cell(group) for place, group in groups.items()},
            shade=self.shade,
        )

    def _cell(self, rows: Sequence[RobustnessRow]) -> Cell:
        error = next((row.error for row in rows if row.error is not None), None)
        found = [(FIGURES[self.figure].of(row), row.seed) for row in rows if row.error is None]
        values = [(value, seed) for value, seed in found if value is not None]
        if not values:
            return Cell(error=error)
        worst, seed = max(values, key=lambda each: self.shade.of(each[0]))
        alone = [value for value, _ in values]
        return Cell(fmean(alone), worst, pstdev(alone), seed, len(values), error)


def require_figure(name: str) -> None:
    """Raise ConfigError if heat maps cannot show a figure of this name."""
    if name not in FIGURES:
        raise ConfigError(f"There is no figure {name!r}.", f"There are: {', '.join(FIGURES)}.")


def cell_text(cell: Cell, shade: Shade) -> str:
    """Return what a cell shows."""
    if cell.mean is None:
        return NOTHING if cell.error is None else FAILED
    return shade.text(cell.mean)
