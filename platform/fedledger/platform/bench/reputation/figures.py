"""What the scenarios come to: pay, weight, accuracy, and how long reputations take, beside honest play."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, pstdev
from typing import Any

from fedledger.platform.bench.reputation.playing import Play, PlayedRound
from fedledger.platform.bench.reputation.scenarios import scenario_of
from fedledger.protocol.records.reputation import PPM

AS_OTHERS = 0.9
"""From this share of the others' median on, a newcomer weighs, or earns, as others do."""
NOISE = 0.05
"""What pay beyond honest pay is taken for chance, at least."""


@dataclass(frozen=True)
class Case:
    """A scenario under a model of reputation.

    Parameters
    ----------
    model
        The model as an option names it.
    scenario, attack
        Their names; the attack is empty where nobody attacks.
    seed, rounds
        The seed, and how many rounds there are.
    """

    model: str
    scenario: str
    attack: str
    seed: int
    rounds: int

    def __str__(self) -> str:
        attack = f", {self.attack}" if self.attack else ""
        return f"{self.model}, {self.scenario}{attack}, seed {self.seed}"


@dataclass(frozen=True)
class ReputationRow:
    """What a case came to; `subjects` are those whom the scenario is about.

    Parameters
    ----------
    model, scenario, attack, subjects, seed, rounds
        What was played.
    pay
        What the subjects earned, over what the same people earn with the same data if everybody is honest; None where
        everybody is.
    pay_beside
        What a subject earned in a round, over the median of all others in the rounds in which it took part.
    weight
        The subjects' share of all weight in these rounds.
    hostile_weight
        Share of the weight that updates of attackers had, in the rounds in which somebody attacked; None elsewhere.
    accuracy, accuracy_honest
        Of the last model on the test set, and of that of the honest play; None where that is the same.
    caught
        Rounds from a subject's first attack until its reputation is below the gate; the rounds that were left, for one
        to whom that does not happen. The mean over the subjects that attacked.
    escaped
        Share of the subjects that attacked to whom that does not happen.
    until_weight, until_pay
        Rounds from when the subjects join until they weigh, and earn, 90 % of the others' median; the rounds that were
        left if they never do. None unless they join late.
    honest_lost
        Share of their pay that honest updates lost as they were refused, or their senders' reputation was below the
        gate.
    names
        How many names a subject had, on average.
    trust, trust_others
        Mean reputation of the subjects and of all others by round, from 0 to 1; None before the subjects join.
    error
        Why there are no figures.
    """

    model: str
    scenario: str
    attack: str
    subjects: str
    seed: int
    rounds: int
    pay: float | None = None
    pay_beside: float | None = None
    weight: float | None = None
    hostile_weight: float | None = None
    accuracy: float | None = None
    accuracy_honest: float | None = None
    caught: float | None = None
    escaped: float | None = None
    until_weight: float | None = None
    until_pay: float | None = None
    honest_lost: float | None = None
    names: float | None = None
    trust: Sequence[float | None] = ()
    trust_others: Sequence[float | None] = ()
    error: str | None = None


def row_of(case: Case, play: Play, honest: Play) -> ReputationRow:
    """Return the figures of a play beside those of its honest one."""
    scenario = scenario_of(case.scenario)
    subjects = list(scenario.numbers)
    others = [number for number in range(scenario.participants) if number not in scenario.numbers]
    since = play.rounds[scenario.begins(case.rounds) - 1 :]
    earned = _earned(play.rounds, subjects)
    figures: dict[str, Any] = {
        "pay_beside": _ratio(earned / len(subjects), median(_earned(since, [number]) for number in others)),
        "weight": _share_of_weight(since, lambda each: subjects),
        "accuracy": play.accuracy,
        "honest_lost": _honest_lost(play.rounds, others if scenario.hostile else range(scenario.participants)),
        "names": fmean(play.names[number] for number in subjects),
    }
    if scenario.differs:
        own = subjects[:1] if scenario.dealing == "split" else subjects
        figures |= {"pay": _ratio(earned, _earned(honest.rounds, own)), "accuracy_honest": honest.accuracy}
    if scenario.joins:
        figures["until_weight"] = _until(since, subjects, others, lambda each: each.weights)
        figures["until_pay"] = _until(since, subjects, others, lambda each: each.shares)
    return ReputationRow(
        model=case.model,
        scenario=case.scenario,
        attack=case.attack,
        subjects=scenario.subjects,
        seed=case.seed,
        rounds=case.rounds,
        trust=[_mean_trust(each, subjects) for each in play.rounds],
        trust_others=[_mean_trust(each, others) for each in play.rounds],
        **figures,
        **_of_attacks(play.rounds, subjects),
    )


def _of_attacks(rounds: Sequence[PlayedRound], subjects: Sequence[int]) -> dict[str, Any]:
    """Return the figures that only attacks have."""
    caught = [found for number in subjects if (found := _caught(rounds, number)) is not None]
    if not caught:
        return {}
    return {
        "hostile_weight": _share_of_weight([each for each in rounds if any(each.attacking)], _attackers),
        "caught": fmean(after for after, _ in caught),
        "escaped": fmean(not done for _, done in caught),
    }


def failed(case: Case, error: BaseException) -> ReputationRow:
    """Return the row of a case that failed."""
    told = f"{type(error).__name__}: {error}"
    subjects = scenario_of(case.scenario).subjects
    return ReputationRow(case.model, case.scenario, case.attack, subjects, case.seed, case.rounds, error=told)


@dataclass(frozen=True)
class OverSeeds:
    """A figure over the seeds of a scenario under a model.

    Parameters
    ----------
    mean, deviation
        Its mean and standard deviation; None if no run has it.
    seeds
        How many runs have it.
    """

    mean: float | None
    deviation: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> OverSeeds:
        """Return what values come to, of which some may be missing."""
        found = [value for value in values if value is not None]
        return cls(fmean(found), pstdev(found), len(found)) if found else cls(None, None, 0)

    @property
    def error(self) -> float:
        """The standard error of the mean; without a spread to tell from, 0."""
        return 0.0 if self.deviation is None or self.seeds < 2 else self.deviation / (self.seeds - 1) ** 0.5


def pays(rows: Sequence[ReputationRow]) -> bool | None:
    """Return whether the subjects earn more than they would honestly, beyond what may be chance.

    That is: by more than 5 %, and by more than two standard errors of the mean over seeds. None if nothing was earned
    honestly, or no run has figures.
    """
    pay = OverSeeds.of([row.pay for row in rows])
    return None if pay.mean is None else pay.mean > 1 + max(NOISE, 2 * pay.error)


def _ratio(value: float, unit: float) -> float | None:
    return value / unit if unit else None


def _earned(rounds: Sequence[PlayedRound], numbers: Sequence[int]) -> int:
    return sum(each.shares[number] for each in rounds for number in numbers)


def _attackers(each: PlayedRound) -> Sequence[int]:
    return [number for number, attacks in enumerate(each.attacking) if attacks]


def _share_of_weight(rounds: Sequence[PlayedRound], whose: Callable[[PlayedRound], Sequence[int]]) -> float | None:
    """Return the mean share of the weight that some had, over the rounds that have any weight."""
    shares = [
        sum(each.weights[number] for number in whose(each)) / total for each in rounds if (total := sum(each.weights))
    ]
    return fmean(shares) if shares else None


def _caught(rounds: Sequence[PlayedRound], number: int) -> tuple[int, bool] | None:
    """Return after how many rounds a reputation is below the gate, and whether it ever is; None: it never attacks."""
    first = next((place for place, each in enumerate(rounds) if each.attacking[number]), None)
    if first is None:
        return None
    later = enumerate((each.trust[number], each.gate) for each in rounds[first:])
    found = next((place for place, (trust, gate) in later if trust is not None and trust < gate), None)
    return (len(rounds) - first, False) if found is None else (found, True)


def _until(
    rounds: Sequence[PlayedRound],
    subjects: Sequence[int],
    others: Sequence[int],
    of: Callable[[PlayedRound], Sequence[int]],
) -> float:
    """Return after how many rounds, on average, a subject first has 90 % of the others' median."""

    def has(each: PlayedRound, number: int) -> bool:
        values = of(each)
        return values[number] > 0 and values[number] >= AS_OTHERS * median(values[other] for other in others)

    found = [
        next((place for place, each in enumerate(rounds, 1) if has(each, number)), len(rounds)) for number in subjects
    ]
    return fmean(found)


def _honest_lost(rounds: Sequence[PlayedRound], honest: Sequence[int]) -> float | None:
    """Return the share of honest pay that was lost, where an update that weighs nothing would have had the median."""
    lost = whole = 0.0
    for each in rounds:
        present = [number for number in honest if each.verdicts[number] is not None]
        paid = [each.shares[number] for number in present if each.shares[number]]
        typical = median(paid) if paid else 1.0
        whole += typical * len(present)
        lost += typical * sum(not each.weights[number] for number in present)
    return _ratio(lost, whole)


def _mean_trust(each: PlayedRound, numbers: Sequence[int]) -> float | None:
    known = [trust for number in numbers if (trust := each.trust[number]) is not None]
    return fmean(known) / PPM if known else None
