"""What a run with agents came to, in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedledger.platform.incentives.populations.config import Case


@dataclass(frozen=True)
class PlayedRound:
    """A round that did not ask for bids; money is in units.

    Parameters
    ----------
    score
        Of the model after it, on the test set.
    pay, cost
        What it paid, and what it cost those who worked.
    there, came
        How many agents could have worked, and how many did.
    value, best
        Examples behind honest updates that count, and the most that its budget could have bought.
    """

    score: float
    pay: int
    cost: int
    there: int
    came: int
    value: int
    best: float


@dataclass(frozen=True)
class AgentFigures:
    """What an agent came to: pay and cost in units, and the examples behind its honest updates that count."""

    group: str
    pay: int
    cost: int
    contribution: int


@dataclass(frozen=True)
class Played:
    """A run that was played.

    Parameters
    ----------
    rounds, agents
        Its rounds in order, and its agents by number.
    initial
        The score of the initial model.
    stopped
        Why it ended early; None if it did not.
    """

    rounds: Sequence[PlayedRound]
    agents: Sequence[AgentFigures]
    initial: float
    stopped: str | None = None


@dataclass(frozen=True)
class ComparisonRow:
    """A run in figures; money is in units.

    Parameters
    ----------
    score, spent, cost
        The final model's score, what all rounds paid, and what work cost agents.
    gained
        What the model is worth to the publisher beyond the initial one.
    profit, welfare
        ``gained`` less what was spent, and less what work cost: transfers between the two are no matter of welfare.
    participation
        The mean share of those who could have worked that did.
    unharmed
        The share of agents whose pay is at least their cost.
    pearson
        Of pay and contribution over agents; None where one of them does not vary.
    regret
        1 − what was bought / what the best choice would have bought, over all rounds. It is negative where participants
        work below cost.
    utilities
        Mean of pay less cost, by group.
    curve
        What had been spent by the end of each round, and the score then.
    stopped, error
        Why the run ended early, and why it failed; None if it did not.
    """

    mechanism: str
    population: str
    seed: int
    score: float | None = None
    spent: int | None = None
    cost: int | None = None
    gained: float | None = None
    profit: float | None = None
    welfare: float | None = None
    participation: float | None = None
    unharmed: float | None = None
    pearson: float | None = None
    regret: float | None = None
    utilities: Mapping[str, float] | None = None
    curve: Sequence[tuple[int, float]] | None = None
    stopped: str | None = None
    error: str | None = None


def row_of(case: Case, played: Played) -> ComparisonRow:
    """Return the figures of a run."""
    rounds, agents = played.rounds, played.agents
    score = rounds[-1].score if rounds else played.initial
    spent, cost = sum(each.pay for each in rounds), sum(each.cost for each in rounds)
    gained = case.value * (score - played.initial)
    return ComparisonRow(
        mechanism=case.mechanism,
        population=case.population,
        seed=case.seed,
        score=score,
        spent=spent,
        cost=cost,
        gained=gained,
        profit=gained - spent,
        welfare=gained - cost,
        participation=_share(sum(each.came for each in rounds), sum(each.there for each in rounds)),
        unharmed=sum(each.pay >= each.cost for each in agents) / len(agents),
        pearson=pearson([each.pay for each in agents], [each.contribution for each in agents]),
        regret=_regret(rounds),
        utilities=_utilities(agents),
        curve=_curve(rounds),
        stopped=played.stopped,
    )


def pearson(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the correlation of two lists of numbers; None where one of them does not vary."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _share(part: float, of: float) -> float | None:
    return part / of if of else None


def _regret(rounds: Sequence[PlayedRound]) -> float | None:
    bought = _share(sum(each.value for each in rounds), sum(each.best for each in rounds))
    return None if bought is None else 1 - bought


def _utilities(agents: Sequence[AgentFigures]) -> dict[str, float]:
    """Return the mean utility of each group."""
    groups = dict.fromkeys(each.group for each in agents)
    return {name: float(np.mean([one.pay - one.cost for one in agents if one.group == name])) for name in groups}


def _curve(rounds: Sequence[PlayedRound]) -> list[tuple[int, float]]:
    spent = np.cumsum([each.pay for each in rounds]).tolist()
    return [(total, each.score) for total, each in zip(spent, rounds, strict=True)]
