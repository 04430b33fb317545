"""Which figures a pipeline is to reach against which class of attacks, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedledger.platform.bench.attack_suite import (
    ADAPTIVE,
    BACKDOOR,
    FORECAST,
    GROUP,
    HARM,
    LITTLE_WORK,
    MIN_SUM,
    NO_WORK,
    NONE,
    OLD_COMBINATIONS,
    ON_OFF,
    VALIDATION,
)
from fedledger.platform.bench.robustness import DIGITS, IID, RobustnessRow

MILD, HARSH = (IID, 0.5), (0.1,)
"""Divisions of the data for which goals are stated together."""
ANY = (
    NONE,
    NO_WORK,
    OLD_COMBINATIONS,
    FORECAST,
    HARM,
    MIN_SUM,
    BACKDOOR,
    ON_OFF,
    GROUP,
    VALIDATION,
    LITTLE_WORK,
    ADAPTIVE,
)
EXACT_COPIES = ("sybil", "sybil_0.01", "mimic")

Figure = Callable[[RobustnessRow], float | None]
Divisions = tuple[float | str, ...]


@dataclass(frozen=True)
class Goal:
    """A limit that a figure keeps.

    Parameters
    ----------
    name
        What it is called.
    figure
        The figure of a run; None where it has none.
    kinds
        Classes of attacks for which it is stated.
    mean, worst
        Limits of the mean over the seeds, of each attack and condition, and of each single run, by divisions.
    least
        Whether the limits are the least that is allowed, not the most.
    attacks
        Which attacks of the classes; all unless given.
    populations
        Participants and attackers for which it is stated; all unless given.
    """

    name: str
    figure: Figure
    kinds: Sequence[str]
    mean: Mapping[Divisions, float]
    worst: Mapping[Divisions, float]
    least: bool = False
    attacks: Callable[[str], bool] = lambda attack: True
    populations: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class GoalRow:
    """What a pipeline reaches of a goal.

    Parameters
    ----------
    pipeline, goal, dirichlet
        The pipeline, the goal with its statistic, and the divisions of the data.
    limit, found, met
        The limit, the figure that is farthest on its wrong side, and whether it is kept.
    where
        Attack, division, participants and attackers of that figure, and the seed if it is of a single run.
    """

    pipeline: str
    goal: str
    dirichlet: str
    limit: float
    found: float
    met: bool
    where: str


def behind(row: RobustnessRow) -> float | None:
    """Return how much less accurate a run's model is than the oracle's."""
    return None if row.accuracy is None or row.oracle is None else row.oracle - row.accuracy


def _below(row: RobustnessRow) -> float | None:
    return None if row.reputation_gap is None else float(row.reputation_gap > 0)


GOALS = (
    Goal(
        name="accuracy behind the oracle",
        figure=behind,
        kinds=tuple(kind for kind in ANY if kind not in (BACKDOOR, NONE)),
        mean={MILD: 0.015, HARSH: 0.04},
        worst={MILD: 0.04, HARSH: 0.08},
    ),
    Goal("accuracy behind the mean where nobody attacks", behind, (NONE,), {MILD: 0.005, HARSH: 0.01}, {}),
    Goal("clean accuracy behind the oracle under a backdoor", behind, (BACKDOOR,), {MILD: 0.02}, {}),
    Goal("pay without work", lambda row: row.pay_ratio, (NO_WORK,), {MILD: 0.05, HARSH: 0.1}, {}),
    Goal("pay of forecasts", lambda row: row.pay_ratio, (FORECAST,), {MILD: 0.05, HARSH: 0.1}, {}),
    Goal(
        name="pay of combinations of old updates",
        figure=lambda row: row.pay_ratio,
        kinds=(OLD_COMBINATIONS,),
        mean={MILD: 0.15, HARSH: 0.35},
        worst={(*MILD, *HARSH): 0.5},
    ),
    Goal("pay of harm", lambda row: row.pay_ratio, (HARM,), {(*MILD, *HARSH): 0.1}, {}),
    Goal("pay of min-sum", lambda row: row.pay_ratio, (MIN_SUM,), {(*MILD, *HARSH): 0.4}, {}),
    Goal("pay of backdoors", lambda row: row.pay_ratio, (BACKDOOR,), {MILD: 0.3}, {}),
    Goal("success of backdoors", lambda row: row.attack_success, (BACKDOOR,), {MILD: 0.1}, {}, populations=((13, 3),)),
    Goal("pay after the turn", lambda row: row.pay_after, (ON_OFF,), {(*MILD, *HARSH): 0.1}, {}),
    Goal(
        name="pay of a group of copies",
        figure=lambda row: row.pay_group,
        kinds=(GROUP,),
        mean={(*MILD, *HARSH): 1.25},
        worst={},
        attacks=EXACT_COPIES.__contains__,
    ),
    Goal(
        name="pay of other groups",
        figure=lambda row: row.pay_group,
        kinds=(GROUP,),
        mean={(*MILD, *HARSH): 3.5},
        worst={},
        attacks=lambda attack: attack not in EXACT_COPIES,
    ),
    Goal(
        name="share of runs in which no attacker has an honest name",
        figure=_below,
        kinds=(NO_WORK, HARM),
        mean={MILD: 0.9},
        worst={},
        least=True,
    ),
    Goal(
        name="honest updates refused",
        figure=lambda row: row.refused_honest,
        kinds=ANY,
        mean={MILD: 0.015, HARSH: 0.03},
        worst={MILD: 0.05},
    ),
    Goal(
        name="pay of the poorest honest",
        figure=lambda row: row.pay_poorest,
        kinds=ANY,
        mean={MILD: 0.5, HARSH: 0.2},
        worst={MILD: 0.2},
        least=True,
    ),
)


def judged(rows: Sequence[RobustnessRow]) -> list[GoalRow]:
    """Return what each pipeline reaches of each goal, as far as rows tell."""
    found = []
    for pipeline in dict.fromkeys(row.pipeline for row in rows):
        own = [row for row in rows if row.pipeline == pipeline]
        for goal in GOALS:
            for limits, single in ((goal.mean, False), (goal.worst, True)):
                for divisions, limit in limits.items():
                    suited = [row for row in own if _suits(goal, row, divisions)]
                    found += _judged(pipeline, goal, divisions, limit, _figures(goal, suited, single))
    return found


def _suits(goal: Goal, row: RobustnessRow, divisions: Divisions) -> bool:
    if goal.populations and (row.participants, row.hostile) not in goal.populations:
        return False
    return row.kind in goal.kinds and row.dirichlet in divisions and goal.attacks(row.attack)


def _figures(goal: Goal, rows: Sequence[RobustnessRow], single: bool) -> dict[str, list[float]]:
    """Return a goal's figures by where they were found: of single runs, or of all seeds together."""
    figures: dict[str, list[float]] = {}
    for row in rows:
        value = goal.figure(row)
        if value is not None:
            where = f"{row.attack}, {row.dirichlet}, {row.participants}-{row.hostile}"
            where += "" if row.data == DIGITS else f", {Path(row.data).name}"
            figures.setdefault(f"{where}, seed {row.seed}" if single else where, []).append(value)
    return figures


def _judged(
    pipeline: str, goal: Goal, divisions: Divisions, limit: float, figures: Mapping[str, Sequence[float]]
) -> list[GoalRow]:
    if not figures:
        return []
    means = {where: sum(values) / len(values) for where, values in figures.items()}
    worst = min if goal.least else max
    where = worst(means, key=lambda each: means[each])
    value = means[where]
    statistic = "any run" if "seed" in where else "mean"
    met = value >= limit if goal.least else value <= limit
    about = ", ".join(map(str, divisions))
    return [GoalRow(pipeline, f"{goal.name} ({statistic})", about, limit, round(value, 6), met, where)]
