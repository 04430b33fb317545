"""Contribution scores beside each other: what each adds to a round, how near it is to exact values, whom it pays.

A task is played without a ledger, and each of its rounds is evaluated with one score after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from time import perf_counter

import numpy as np

from fedledger.aggregator.contributions.base import CONTRIBUTIONS
from fedledger.aggregator.round.pipeline import Entry, RoundContext, RoundResult
from fedledger.platform.bench.robustness import Case, Condition, configuration
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.protocol.arithmetic.exact import IntArray
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method

COMMAND = "fedledger bench contributions"
EXACT, NOTHING = "shapley@1", "equal@1"
NAMES = (
    "leave_one_out@1",
    EXACT,
    "tmc_shapley@1",
    "gtg_shapley@1",
    "fedsv@1",
    "comfedsv@1",
    "banzhaf@1",
    "least_core@1",
    "cgsv@1",
    "held_out_gain@1",
    "peer_prediction@1",
    "alignment@1",
)
PIPELINE = "mean"
"""A plain mean, and no detector: what a score makes of an attacker whom nobody has refused."""
_NONE = "–"


@dataclass(frozen=True)
class Given:
    """What is played: so many participants, of whom some attack, and how a round is timed."""

    case: Case
    rounds: int = 10
    repeats: int = 3

    @classmethod
    def of(cls, condition: Condition, attack: str, rounds: int, repeats: int) -> Given:
        """Return what is played in a condition."""
        return cls(Case(PIPELINE, attack, condition), rounds, repeats)


@dataclass(frozen=True)
class ContributionRow:
    """What a score comes to, on average over the rounds.

    Parameters
    ----------
    method
        The score.
    coalitions
        How many coalitions it measured.
    milliseconds
        The median of what it adds to a round, beside one that pays all the same.
    pearson
        Correlation of its values with exact Shapley values; None where either are all the same.
    hostile_pay, most_hostile_pay
        Pay of the attackers over the median of the honest, on average and the best of them; None without attackers.
    unpaid
        Share of the rounds in which it paid nobody.
    """

    method: str
    coalitions: float
    milliseconds: float
    pearson: float | None
    hostile_pay: float | None
    most_hostile_pay: float | None
    unpaid: float


def measured(given: Given, names: Sequence[str] = NAMES) -> list[ContributionRow]:
    """Play a task and return a row for each score.

    Raises
    ------
    ConfigError
        If there is no such score, or the configuration cannot be played.
    """
    for name in names:
        CONTRIBUTIONS.get(name)
    experiment = make_experiment(configuration(given.case, given.rounds), Path())
    record = _Trying(experiment, names, given.repeats)
    with Serial(experiment) as backend:
        for _ in play(record, backend):
            pass
    if not record.rounds:
        raise ConfigError("No round had two updates that count.", "Have more participants, or play more rounds.")
    hostile = {experiment.address(n).lower() for n, name in enumerate(experiment.behaviours) if name != HONEST}
    return [_row(name, record.rounds, hostile) for name in names]


def table_cells(rows: Sequence[ContributionRow]) -> list[dict[str, str]]:
    """Return a table's rows."""
    return [
        {
            "score": row.method,
            "coalitions": f"{row.coalitions:,.0f}",
            "added, ms": f"{row.milliseconds:,.1f}",
            "Pearson with exact": _shown(row.pearson),
            "attackers' pay": _shown(row.hostile_pay),
            "best attacker's": _shown(row.most_hostile_pay),
            "rounds unpaid": f"{row.unpaid:.0%}",
        }
        for row in rows
    ]


@dataclass(frozen=True)
class _Tried:
    """What a score made of a round: of each owner that counts a value and a share of pay."""

    seconds: float
    coalitions: int
    values: Mapping[str, float]
    pay: Mapping[str, int]


class _Trying(MemoryRecord):
    """Rounds each of which is evaluated with several scores."""

    def __init__(self, experiment: Experiment, names: Sequence[str], repeats: int) -> None:
        super().__init__(experiment, judged=True)
        self.rounds: list[dict[str, _Tried]] = []
        self._names, self._repeats = names, repeats
        self._memories: dict[str, Mapping[str, IntArray]] = {}

    def evaluated(self, given: RoundContext, entries: Sequence[Entry]) -> RoundResult:
        """Evaluate a round's updates as the task says, and with each score."""
        result = super().evaluated(given, entries)
        if sum(weight > 0 for weight in result.weights) > 1:
            names = dict.fromkeys((NOTHING, EXACT, *self._names))
            self.rounds.append({name: self._tried(name, given, entries) for name in names})
        return result

    def _tried(self, name: str, given: RoundContext, entries: Sequence[Entry]) -> _Tried:
        spec = given.spec.model_copy(update={"contribution": Method(method=name)})
        state = replace(given.state, memories=dict(self._memories.get(name, {})))
        own, seconds = replace(given, spec=spec, state=state), []
        for _ in range(self._repeats):
            began = perf_counter()
            result = super().evaluated(own, entries)
            seconds.append(perf_counter() - began)
        self._memories[name] = result.state.memories
        owners = [entry.owner.lower() for entry in entries]
        counted = [place for place, weight in enumerate(result.weights) if weight]
        told = [one.value for one in result.estimates if one is not None]
        values = told or [result.scores[place] for place in counted]
        return _Tried(
            min(seconds),
            len(result.coalitions),
            {owners[place]: float(value) for place, value in zip(counted, values, strict=True)},
            {owners[place]: result.shares[place] for place in counted},
        )


def _row(name: str, rounds: Sequence[Mapping[str, _Tried]], hostile: set[str]) -> ContributionRow:
    tried = [each[name] for each in rounds]
    correlations = [found for each in rounds if (found := _pearson(each[name].values, each[EXACT].values)) is not None]
    over = _hostile_pay(_pay(tried), hostile)
    return ContributionRow(
        method=name,
        coalitions=mean(each.coalitions for each in tried),
        milliseconds=1e3 * median(each[name].seconds - each[NOTHING].seconds for each in rounds),
        pearson=mean(correlations) if correlations else None,
        hostile_pay=mean(over) if over else None,
        most_hostile_pay=max(over) if over else None,
        unpaid=mean(not any(each.pay.values()) for each in tried),
    )


def _hostile_pay(paid: Mapping[str, int], hostile: set[str]) -> list[float]:
    """Return the pay of each attacker over the median of the honest."""
    usual = median([pay for owner, pay in paid.items() if owner not in hostile] or [0])
    return [pay / usual for owner, pay in paid.items() if owner in hostile] if usual else []


def _pay(tried: Sequence[_Tried]) -> dict[str, int]:
    """Return what each owner was paid in all rounds."""
    total: dict[str, int] = {}
    for each in tried:
        for owner, pay in each.pay.items():
            total[owner] = total.get(owner, 0) + pay
    return total


def _pearson(one: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    first, second = [one[owner] for owner in one], [other[owner] for owner in one]
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _shown(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"
