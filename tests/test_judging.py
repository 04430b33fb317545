"""Judging by what is accepted: to a fixed point or a limit, few refusals, and nothing by claims or by a good name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.detectors.base import Finding, Judged, worst
from fedledger.aggregator.round.judging import PASSES, judge
from fedledger.aggregator.round.methods import RoundMethods, Staged
from fedledger.aggregator.round.pipeline import RoundResult
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import EMBEDDED
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.spec import JudgementSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.examples import examples
from support.judged_task import NEWCOMER, SPEC, Task, changed
from support.small import run_small
from support.work_rounds import a_round

HALF = JudgementSpec(most_refused=500_000)
findings = st.none() | st.builds(
    Finding, st.just("value"), st.floats(0, 9), st.just(0.0), st.sampled_from([0.5, 1.0, 2.0, float("inf")])
)
verdicts = st.lists(st.tuples(st.booleans(), findings), max_size=12)


@examples(150)
@given(verdicts, st.integers(0, 12))
def test_of_too_many_refusals_the_worst_stand_and_of_equals_all_or_none(
    given_: list[tuple[bool, Finding | None]], most: int
) -> None:
    judged = [Judged(Verdict.HARM, found) if refused else Judged(Verdict.ACCEPTED) for refused, found in given_]
    left = worst(judged, most)
    bad = [0.0 if one.finding is None else one.finding.excess for one in judged]
    stand = [one.verdict.refused for one in left]
    refused = [one.verdict.refused for one in judged]
    certain = sum(was and excess == float("inf") for was, excess in zip(refused, bad, strict=True))
    assert sum(stand) - certain <= most and all(was or not stands for was, stands in zip(refused, stand, strict=True))
    assert all(
        stands for was, excess, stands in zip(refused, bad, stand, strict=True) if was and excess == float("inf")
    )
    if sum(refused) - certain <= most:
        assert left == judged
    for i, j in ((i, j) for i, a in enumerate(refused) for j, b in enumerate(refused) if a and b):
        # Who is at least as bad as one that is refused, is refused.
        assert stand[i] or not stand[j] or bad[i] < bad[j]
    # No more could be refused: the next ones are too many.
    rest = [bad[i] for i, was in enumerate(refused) if was and not stand[i]]
    if rest:
        assert sum(stand) - certain + rest.count(max(rest)) > most


@dataclass(frozen=True)
class Beyond:
    """Flag a value that is so much above the mean of the accepted ones."""

    values: tuple[float, ...]
    by: float
    verdict = Verdict.HARM

    def __call__(self, context: StageContext) -> Sequence[Finding | None]:
        middle = float(np.mean(np.array(self.values)[context.accepted])) if context.accepted.any() else 0.0
        return [Finding.above("value", value, middle + self.by) for value in self.values]


@dataclass(frozen=True)
class Contrary:
    """Flag the first update while it judges, and no more once it does not."""

    verdict = Verdict.HARM

    def __call__(self, context: StageContext) -> Sequence[bool]:
        return [bool(context.accepted[0]), *[False] * (context.count - 1)]


@dataclass
class Rounds:
    """What detectors know of updates, and how often they were asked."""

    count: int
    asked: list[np.ndarray] = field(default_factory=list)

    def judged_by(self, accepted: np.ndarray) -> dict[str, StageContext]:
        self.asked.append(accepted.copy())
        known = a_round(np.ones((self.count, 2), np.int64))
        return {"detectors.0": replace(known, accepted=accepted)}


def methods(detector: object) -> RoundMethods:
    return replace(RoundMethods.of(SPEC), detectors=(Staged("detectors.0", detector),))


class TestPasses:
    @examples(100)
    @given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.floats(0, 40), st.integers(0, 10**6))
    def test_end_where_the_accepted_accept_each_other(self, values: list[float], by: float, most: int) -> None:
        rounds = Rounds(len(values))
        detector = Beyond(tuple(values), by)
        rule = JudgementSpec(most_refused=most)
        judged, known = judge(methods(detector), rule, len(values), rounds.judged_by)
        accepted = known["detectors.0"].accepted
        assert [not one.verdict.refused for one in judged] == accepted.tolist()
        assert sum(one.verdict.refused for one in judged) <= len(values) * most // 10**6
        assert len(rounds.asked) <= PASSES + 1
        if len({tuple(asked) for asked in rounds.asked}) == len(rounds.asked) <= PASSES:
            again = [
                Judged(Verdict.HARM, found) if found else Judged(Verdict.ACCEPTED)
                for found in detector(known["detectors.0"])
            ]
            assert worst(again, len(values) * most // 10**6) == list(judged)
        assert all(one.finding is not None for one in judged if one.verdict.refused)

    def test_refuse_who_is_refused_if_and_only_if_accepted(self) -> None:
        rounds = Rounds(4)
        judged, known = judge(methods(Contrary()), HALF, 4, rounds.judged_by)
        assert len(rounds.asked) <= 3
        assert [one.verdict.refused for one in judged] == [True, False, False, False]
        assert known["detectors.0"].accepted.tolist() == [False, True, True, True]
        # But no more than may be.
        judged, known = judge(methods(Contrary()), JudgementSpec(most_refused=0), 4, Rounds(4).judged_by)
        assert not any(one.verdict.refused for one in judged) and known["detectors.0"].accepted.all()

    def test_are_one_without_a_rule(self) -> None:
        rounds = Rounds(4)
        judged, known = judge(methods(Beyond((0.0, 0.0, 9.0, 40.0), 10.0)), None, 4, rounds.judged_by)
        assert len(rounds.asked) == 1 and known["detectors.0"].accepted.all()
        assert [one.verdict.refused for one in judged] == [False, False, False, True]
        rounds = Rounds(4)
        judged, _ = judge(methods(Beyond((0.0, 0.0, 9.0, 40.0), 5.0)), HALF, 4, rounds.judged_by)
        # By the mean of all only the last one stands out, and without it the one before does.
        assert [one.verdict.refused for one in judged] == [False, False, True, True]

    def test_refuse_nobody_where_nobody_is(self) -> None:
        assert judge(methods(Contrary()), HALF, 0, Rounds(0).judged_by)[0] == []


def outcome(result: RoundResult) -> tuple[object, ...]:
    """All that follows from a round."""
    return (
        result.verdicts,
        result.model.tobytes(),
        list(result.weights),
        list(result.scores),
        list(result.shares),
        result.state.encode(),
    )


def mixed(task: Task) -> np.ndarray:
    """Eight who train, one who sends noise, and one who sends nothing."""
    rows = task.trained(8)
    size = np.linalg.norm(rows, axis=1).mean() / task.dimension**0.5
    return np.vstack([rows, size * task.rng.normal(size=(1, task.dimension)), np.zeros((1, task.dimension))])


def ready(**changes: object) -> Task:
    """A task after two rounds."""
    task = Task(changed(**changes))
    for _ in range(2):
        task.next(mixed(task))
    return task


NORMALISATIONS = [Method(method="median_clip@1"), Method(method="fednova@2")]


class TestClaims:
    @pytest.mark.parametrize("normalisation", NORMALISATIONS, ids=lambda method: method.method)
    @examples(6)
    @given(st.lists(st.integers(1, 10**6), min_size=10, max_size=10))
    def test_of_examples_change_nothing(self, normalisation: Method, claims: list[int]) -> None:
        task = ready(normalisation=normalisation.model_dump())
        rows = mixed(task)
        assert outcome(task.evaluated(rows, claims)) == outcome(task.evaluated(rows))

    def test_of_steps_may_magnify_nothing(self) -> None:
        task = Task(changed(normalisation=Method(method="fednova@1", params={"max_steps": 9}).model_dump()))
        with pytest.raises(ConfigError, match="fednova@1"):
            task.evaluated(mixed(task))

    @examples(10)
    @given(st.lists(st.integers(1, 10**6), min_size=10, max_size=10), st.integers(0, 9), st.integers(1, 10**6))
    def test_above_the_median_raise_no_weight(self, claims: list[int], who: int, more: int) -> None:
        task = ready(judgement={"claims": "median"})
        rows, middle = mixed(task), sorted(claims)[4]
        assume(claims[who] >= sorted(claims)[5])
        first = task.evaluated(rows, claims)
        claims[who] += more
        assert outcome(task.evaluated(rows, claims)) == outcome(first)
        assert max(first.examples) <= middle


class TestReputation:
    @examples(10)
    @given(st.lists(st.integers(NEWCOMER, 10**6), min_size=10, max_size=10))
    def test_refuses_and_excuses_nobody(self, reputations: list[int]) -> None:
        task = ready(reputation={"gate": 0, "relative_gate": 0})
        rows = mixed(task)
        first, second = task.evaluated(rows), task.evaluated(rows, reputations=reputations)
        assert first.verdicts == second.verdicts and first.findings == second.findings
        assert first.scores == second.scores


class TestRefused:
    def test_have_a_finding_that_says_why(self) -> None:
        task, refused = Task(), 0
        for _ in range(6):
            result = task.next(mixed(task))
            for verdict, finding in zip(result.verdicts, result.findings, strict=True):
                assert (finding is not None) == verdict.refused
                if finding is not None:
                    refused += 1
                    assert verdict.statistical and finding.signal and finding.excess > 0
                    assert finding.value != finding.threshold or finding.excess == float("inf")
            assert result.verdicts[9] is Verdict.NO_WORK
        assert refused > 6

    @pytest.mark.parametrize("share", [0, 100_000, 350_000, 500_000, 1_000_000])
    def test_are_no_more_than_the_spec_says(self, share: int) -> None:
        """Six of ten send noise or harm."""
        task = Task(changed(judgement={"most_refused": share}))
        for _ in range(5):
            rows = task.trained(10)
            rows[4:7] = np.linalg.norm(rows[0]) / 20 * task.rng.normal(size=(3, task.dimension))
            rows[7:] *= -1
            result = task.next(rows)
            assert sum(verdict.refused for verdict in result.verdicts) <= 10 * share // 1_000_000

    @pytest.mark.parametrize("size", [10.0, 40.0])
    def test_do_not_move_what_becomes_of_the_others(self, size: float) -> None:
        """What the refused send is another time, times as large as before, and turned around."""
        task = ready()
        rows = mixed(task)
        rows[8] = -20 * rows[:8].mean(axis=0)
        rows[9] = 20 * rows[8] / np.linalg.norm(rows[8]) * np.linalg.norm(rows[0])
        first = task.evaluated(rows)
        rows[9] *= size
        rows[8] *= size
        second = task.evaluated(rows)
        assert [verdict.refused for verdict in first.verdicts] == [False] * 8 + [True] * 2
        assert outcome(first)[:5] == outcome(second)[:5]

    def test_weigh_and_earn_nothing_and_the_rest_go_on(self) -> None:
        task = Task()
        before = task.measure("", task.model).loss
        for _ in range(8):
            result = task.next(mixed(task))
            for verdict, weight, share in zip(result.verdicts, result.weights, result.shares, strict=True):
                assert (weight > 0) == (verdict is Verdict.ACCEPTED) and (share == 0 or weight > 0)
        assert task.measure("", task.model).loss < before / 10

    def test_are_all_judged_where_few_came(self) -> None:
        for count in (0, 1, 2, 3):
            task = Task()
            for _ in range(3):
                result = task.next(task.trained(count) if count else np.zeros((0, task.dimension)))
                assert result.verdicts == [Verdict.ACCEPTED] * count and np.isfinite(result.model).all()


WORK = """
evidence = { method = "work@1" }
judgement = { most_refused = 400000 }
normalisation = { method = "median_clip@1" }
aggregation = { method = "supported_mean@1" }
contribution = { method = "corroborated@1" }
"""


def test_a_run_is_reproduced_by_its_audit_and_is_the_same_without_a_ledger(tmp_path: Path) -> None:
    """The state, measurements with margins, findings and pay are all on the ledger or follow from it."""
    made = run_small(tmp_path, Chain(EMBEDDED), participants=5, rounds=3, extra=WORK)
    result = audit_run(tmp_path)
    assert result.reproduced and result.rounds == 3, result.first_divergence
    proposal = made.run.task.rounds[3].proposal
    assert proposal is not None
    report = canonical.decode(LocalStore(tmp_path / "store").get(proposal.report))
    assert all(type(update["measurement"]["margin"]) is int for update in report["updates"])
    assert {"claimed", "finding"} <= set(report["updates"][0]) and "strict" in report["aggregation"]
    folder = tmp_path / "plain"
    folder.mkdir()
    plain = run_without_ledger(make_experiment(load_config(tmp_path / "config.toml"), tmp_path), folder, "serial")
    assert plain["final_model"] == made.summary["final_model"]
