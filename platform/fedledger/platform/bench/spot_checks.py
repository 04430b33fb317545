"""What riding, copying and honest work earn where updates are checked, by runs with real pay and real checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import comb
from statistics import fmean, stdev

from fedledger.platform.bench.processes import shared_out
from fedledger.platform.bench.robustness import DIGITS, IID
from fedledger.platform.bench.spot_check_runs import CheckedCase, CheckedRow, Earned, played
from fedledger.platform.experiment.config import LedgerConfig
from fedledger.platform.spot_checks.plan import ANSWER_GAS, CheckPlan, most_pay
from fedledger.protocol.records.reputation import PPM


@dataclass(frozen=True)
class Profit:
    """What a strategy earns over all seeds, in pays of the median honest participant of the same run.

    Parameters
    ----------
    task, strategy, dirichlet, participants, hostile, by_examples
        The cases.
    runs
        Number of seeds.
    accepted, failing
        Accepted updates of a follower in a run, and those that a check fails; means.
    pay, unearned
        What all followers earn together without checks, and how much of it by updates that a check fails.
    profit, error
        The same less the penalties that were drawn and the gas of answers, and its standard error.
    expected
        Likewise with the mean of what is drawn.
    a_failing, most
        What a failing update earned in the mean, and the most that one update earned, over an equal share of a round.
    """

    task: str
    strategy: str
    dirichlet: float | None
    participants: int
    hostile: int
    by_examples: bool
    runs: int
    accepted: float
    failing: float
    pay: float
    unearned: float
    profit: float
    error: float
    expected: float
    a_failing: float
    most: float


@dataclass(frozen=True)
class Terms:
    """On which terms updates are checked and paid.

    Parameters
    ----------
    plan
        Rate and penalty; the stake holds as many penalties as the plan says, and no check is decided before the end.
    credit_unit
        Gwei of a credit unit.
    gas_price
        Gwei of a unit of gas.
    """

    plan: CheckPlan
    credit_unit: int
    gas_price: float

    def cost(self, earned: Earned) -> float:
        """Return what one participant's checks cost it, in credit units, as they were drawn: the mean of all chains."""
        charged = fmean(min(caught, self.plan.staked_penalties) for caught in earned.caught)
        return self._cost(charged, fmean(earned.answered))

    def expected_cost(self, earned: Earned) -> float:
        """Return what they cost in the mean."""
        q, failing = self.plan.rate / PPM, earned.failing
        charged: float = sum(
            min(caught, self.plan.staked_penalties)
            * comb(failing, caught)
            * pow(q, caught)
            * pow(1 - q, failing - caught)
            for caught in range(failing + 1)
        )
        return self._cost(charged, q * (earned.accepted - failing))

    def _cost(self, charged: float, answered: float) -> float:
        return (charged * self.plan.penalty + answered * ANSWER_GAS * self.gas_price) / self.credit_unit


def profit_of(rows: Sequence[CheckedRow], terms: Terms) -> Profit:
    """Return what the runs of one strategy come to; where all are honest, that is of one participant."""
    case, count = rows[0].case, len(rows)
    profits = _in_pays(rows, lambda each: each.pay - terms.cost(each))
    followers = [each for row in rows for each in row.earned]
    # Of equal shares of a round.
    unearned, most = (
        statistic * case.participants / rows[0].pot
        for statistic in (sum(each.unearned for each in followers), max(each.most for each in followers))
    )
    return Profit(
        task=case.task,
        strategy=case.strategy,
        dirichlet=case.dirichlet,
        participants=case.participants,
        hostile=case.hostile,
        by_examples=case.by_examples,
        runs=count,
        accepted=fmean(each.accepted for each in followers),
        failing=fmean(each.failing for each in followers),
        pay=fmean(_in_pays(rows, lambda each: each.pay)),
        unearned=fmean(_in_pays(rows, lambda each: each.unearned)),
        profit=fmean(profits),
        error=stdev(profits) / count**0.5 if count > 1 else 0.0,
        expected=fmean(_in_pays(rows, lambda each: each.pay - terms.expected_cost(each))),
        a_failing=unearned / max(1, sum(each.failing for each in followers)),
        most=most,
    )


def _in_pays(rows: Sequence[CheckedRow], amount: Callable[[Earned], float]) -> list[float]:
    """Return an amount of each run: of all that follow the strategy, or of one participant where all are honest."""
    shared = 1 if rows[0].case.hostile else rows[0].case.participants
    return [sum(map(amount, row.earned)) / row.honest / shared for row in rows]


@dataclass(frozen=True)
class StudyOptions:
    """How a study is played and paid.

    Parameters
    ----------
    rate
        Accepted updates of a million that are checked.
    gas_price
        Gwei of a unit of gas.
    rounds
        Of each run, if not the usual number.
    workers
        Number of processes.
    """

    rate: int
    gas_price: float = 1.0
    rounds: int | None = None
    workers: int = 1

    def terms(self, row: CheckedRow) -> Terms:
        """Return the terms that a plan gives for a run's task, with the usual ledger."""
        unit = LedgerConfig().credit_unit_gwei
        plan = CheckPlan.of(most_pay(row.pot * unit, row.quorum), row.rounds, self.rate)
        return Terms(plan, unit, self.gas_price)


def study(
    cases: Sequence[CheckedCase],
    options: StudyOptions,
    announce: Callable[[str, int, int], None] = lambda doing, done, of: None,
) -> list[Profit]:
    """Play cases, and return what each strategy earns in each condition.

    Parameters
    ----------
    cases
        The runs.
    options
        How they are played and paid.
    announce
        Is told what has just been played, how many runs are, and how many there will be.
    """
    rows: dict[CheckedCase, list[CheckedRow]] = {}
    work = partial(played, rate=options.rate, rounds=options.rounds)
    for done, (case, row) in enumerate(shared_out(cases, work, options.workers), start=1):
        if isinstance(row, BaseException):
            raise row
        rows.setdefault(replace(case, seed=0), []).append(row)
        announce(f"{case.task}, {case.strategy}, seed {case.seed}", done, len(cases))
    conditions = dict.fromkeys(replace(case, seed=0) for case in cases)
    return [profit_of(rows[each], options.terms(rows[each][0])) for each in conditions]


def table_cells(profits: Sequence[Profit]) -> list[dict[str, str]]:
    """Return a table's rows."""
    return [
        {
            "task": each.task,
            "strategy": each.strategy + (", paid by examples" if each.by_examples else ""),
            "Dirichlet": IID if each.dirichlet is None and each.task == DIGITS else f"{each.dirichlet or ''}",
            "hostile": f"{each.hostile} of {each.participants}",
            "accepted": f"{each.accepted:.1f}",
            "failing": f"{each.failing:.1f}",
            "pay": f"{each.pay:.3f}",
            "of it unearned": f"{each.unearned:.3f}",
            "profit": f"{each.profit:.2f} ± {each.error:.2f}",
            "expected": f"{each.expected:.2f}",
            "a failing update": f"{each.a_failing:.2f}",
            "most": f"{each.most:.2f}",
        }
        for each in profits
    ]


COLUMNS = (
    "accepted, failing: a follower's updates in a run, and those that a check fails. Pay, profit and expected are in "
    "pays of the median honest participant, of all followers together; unearned is the pay of failing updates. profit: "
    "pay less the drawn penalties and the gas of answers, with its standard error over the runs; expected: with the "
    "mean of what can be drawn. a failing update, most: what one earned in the mean, and the most that an update of a "
    "follower earned, in equal shares of a round. Where nobody is hostile, figures are of one participant."
)
"""What the columns of :func:`table_cells` are."""
