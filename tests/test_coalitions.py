"""Coalitions of a round's updates: what is measured of them, who is missed, and that nobody can lie about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.context.work import MAX_MEMBERS, MAX_SUMS
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Coalition
from fedledger.aggregator.contributions.leave_one_out import LeaveOneOut
from fedledger.aggregator.duties import proposing
from fedledger.aggregator.round.measurer import Measurer, Named
from fedledger.aggregator.round.methods import check_work
from fedledger.aggregator.round.outcome import Content, RoundOutcome
from fedledger.aggregator.round.pipeline import Entry, RoundContext, RoundResult, evaluate_round
from fedledger.aggregator.round.state import State
from fedledger.aggregator.round.validation import ValidUpdate
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import EMBEDDED
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.audit.replay import ReplayedTask, read_terms, replay_round
from fedledger.platform.engine.backends.serial import Serial
from fedledger.platform.engine.federation import play
from fedledger.platform.engine.without_ledger import MemoryRecord
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.protocol.codecs.statistics import Statistics
from fedledger.protocol.encoding import canonical
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.reputation import PPM
from fedledger.protocol.records.settlement import apportion
from fedledger.protocol.records.spec import JudgementSpec, StatisticSpec, TaskSpec, TensorsSpec
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.quick import quick
from support.small import Small, run_small

SPEC = TaskSpec(
    name="coalitions",
    rounds=1,
    initial_model=Ref.of(ContentRef.of(b"model")),
    validation=Ref.of(ContentRef.of(b"validation")),
    contribution=Method(method="leave_one_out@1"),
)
UNIT = SPEC.fixed.unit
DOUBT = 2 * SPEC.tolerance.loss
TARGET = 2.0
UNITS = 1_000


@dataclass
class Distance:
    """Measures the squared distance of a model's numbers to a target, and notes what it was asked at once."""

    asked: list[list[str]] = field(default_factory=list)

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        return self.each([(what, vector)])[0]

    def each(self, named: Iterable[Named]) -> list[Measurement]:
        given = list(named)
        self.asked.append([what for what, _ in given])
        return [Measurement(round(1e6 * float(((vector - TARGET) ** 2).sum())), 0) for _, vector in given]


def entry(number: int, step: float, statistics: Sequence[int] | NDArray[np.int64] = (), reputation: int = PPM) -> Entry:
    values = np.array(statistics, np.int64)
    return Entry(f"0x{number:040x}", reputation, ValidUpdate(np.array([round(step * UNIT)]), 10, statistics=values))


def evaluated(entries: Sequence[Entry], measure: Measurer | None = None, **changes: Any) -> RoundResult:
    spec = SPEC.model_copy(update=changes)
    held = [one.reputation for one in entries]
    base = np.zeros(1 + spec.statistics, np.float32)
    context = RoundContext(spec, base, State(np.zeros(1, np.int64)), held, len(held), units=UNITS)
    return evaluate_round(context, entries, measure or Distance())


def losses(result: RoundResult) -> dict[Coalition, int]:
    return {members: measurement.loss for members, measurement in result.coalitions.items()}


# -- by hand -----------------------------------------------------------------------------------------------------


def test_who_is_missed_most_earns_most() -> None:
    """The mean of steps 3, 3 and 0 meets the target 2; without a 3 it is 1.5, without the 0 it is 3."""
    measure = Distance()
    result = evaluated([entry(0, 3.0), entry(1, 3.0), entry(2, 0.0)], measure)
    assert losses(result) == {(0, 1, 2): 0, (1, 2): 250_000, (0, 2): 250_000, (0, 1): 1_000_000}
    assert list(result.scores) == [250_000 - DOUBT, 250_000 - DOUBT, 1_000_000 - DOUBT]
    assert list(result.shares) == apportion(UNITS, result.scores) and result.shares[2] > 3 * result.shares[0] > 0
    assert measure.asked[2] == [f"coalition {number}" for number in (1, 2, 3, 4)]


def test_what_the_optimiser_does_is_left_out() -> None:
    halved = Method(method="fedavg@1", params={"server_learning_rate": 0.5})
    entries = [entry(0, 3.0), entry(1, 3.0), entry(2, 0.0)]
    plain, slow = evaluated(entries), evaluated(entries, optimiser=halved)
    assert slow.model.tolist() == [1.0] != plain.model.tolist()
    assert slow.coalitions == plain.coalitions and slow.shares == plain.shares


def test_copies_earn_nothing_and_nor_does_who_does_harm() -> None:
    assert list(evaluated([entry(i, 2.0) for i in range(3)]).scores) == [0, 0, 0]
    assert not any(evaluated([entry(i, 2.0) for i in range(3)]).shares)
    harmful = evaluated([entry(0, 2.0), entry(1, 2.0), entry(2, -2.0)])
    assert harmful.scores[2] == 0 and min(harmful.scores[:2]) > 0


def test_differences_within_the_tolerance_count_as_none() -> None:
    """Of 2 and 2 + 2e, the mean is off by e, and without the first by 2e: worse by 3e²."""
    for off, score in ((0.036, 0), (0.037, 107)):
        result = evaluated([entry(0, 2.0), entry(1, 2.0 + 2 * off)])
        missed = result.coalitions[1,].loss - result.coalitions[0, 1].loss
        assert missed == pytest.approx(3e6 * off * off, abs=1) and missed > 0
        assert list(result.scores) == [pytest.approx(score, abs=1), 0]


def test_alone_an_update_is_compared_with_the_base() -> None:
    result = evaluated([entry(0, 1.0)])
    assert losses(result) == {(0,): 1_000_000} and list(result.scores) == [3_000_000 - DOUBT]
    assert list(result.shares) == [UNITS]


def test_statistics_belong_to_a_coalition_s_model() -> None:
    tensors = TensorsSpec(statistics=[StatisticSpec(name="mean", length=1, bound_bits=16)])
    two = Statistics.of(tensors).fixed(np.array([2.0], np.float32))
    result = evaluated([entry(0, 2.0, two), entry(1, 2.0, two * 0)], tensors=tensors)
    assert losses(result) == {(0, 1): 1_000_000, (1,): 4_000_000, (0,): 0}
    assert list(result.scores) == [3_000_000 - DOUBT, 0]


def test_refused_updates_and_those_below_a_gate_are_in_no_coalition() -> None:
    norm = [Method(method="norm@1", params={"least": 0.0, "most": 5.0})]
    entries = [entry(0, 2.0), entry(1, 40.0), entry(2, 1.0), entry(3, 1.0, reputation=1)]
    result = evaluated(entries, detection=norm)
    assert result.verdicts[1] is Verdict.NORM and list(result.weights)[1::2] == [0, 0]
    assert list(result.coalitions) == [(0, 2), (2,), (0,)]
    assert list(result.scores)[1::2] == [0, 0]


def test_a_round_that_does_not_count_or_has_no_updates_measures_no_coalition() -> None:
    assert evaluated([]).coalitions == {}
    measure = Distance()
    context = RoundContext(SPEC, np.zeros(1, np.float32), State(np.zeros(1, np.int64)), [PPM], 1, enough=False)
    assert evaluate_round(context, [entry(0, 1.0)], measure).coalitions == {}
    assert not any("coalition" in what for asked in measure.asked for what in asked)


def test_a_score_that_asks_for_no_coalition_gets_none() -> None:
    assert evaluated([entry(0, 1.0)], contribution=Method(method="equal@1")).coalitions == {}


@pytest.mark.parametrize("rule", ["median@1", "trimmed_mean@1", "geometric_median@1", "multi_krum@1"])
def test_a_coalition_is_aggregated_as_a_round_of_its_members(rule: str) -> None:
    """By the task's rule: so its model is that of a round in which the others sent nothing."""
    params = {"trimmed_mean@1": {"f": 1}, "multi_krum@1": {"f": 1, "m": 2}}.get(rule, {})
    aggregation = Method(method=rule, params=params)
    entries = [entry(i, step) for i, step in enumerate((1.0, 1.5, 2.0, 5.0, 9.0))]
    result = evaluated(entries, aggregation=aggregation)
    for members, measurement in result.coalitions.items():
        alone = evaluated([entries[i] for i in members], aggregation=aggregation)
        assert measurement == alone.model_measurement


# -- limits ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asking:
    """Asks for what it is told."""

    asked: tuple[Coalition, ...]

    def most_coalitions(self, rows: int) -> int:
        return len(self.asked)

    def coalitions(self, context: StageContext, weights: Sequence[int]) -> Sequence[Coalition]:
        return self.asked

    def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
        return [len(context.coalitions) if weight else 0 for weight in weights]


def asking(monkeypatch: pytest.MonkeyPatch, *asked: Coalition) -> RoundResult:
    monkeypatch.setitem(CONTRIBUTIONS._methods, "leave_one_out@1", lambda: Asking(asked))
    # Another seed is another spec, whose methods are made anew.
    entries = [entry(0, 1.0), entry(1, 2.0), entry(2, 3.0, reputation=1)]
    return evaluated(entries, seed=abs(hash(asked)) % 2**50)


def test_a_coalition_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    result = asking(monkeypatch, (0,), (0, 1), (0,))
    assert list(result.coalitions) == [(0,), (0, 1)] and list(result.scores) == [2, 2, 0]


@pytest.mark.parametrize("members", [(), (1, 0), (0, 0), (2,), (0, 7), (-1,)])
def test_a_coalition_of_none_of_the_updates_that_count_is_an_error(
    monkeypatch: pytest.MonkeyPatch, members: Coalition
) -> None:
    with pytest.raises(RoundError, match="coalition"):
        asking(monkeypatch, members)


def test_a_score_says_what_it_lacks_outside_of_a_round() -> None:
    known = StageContext(features=None, accepted=np.ones(2, np.bool_))  # type: ignore[arg-type]
    with pytest.raises(RoundError, match="no measurement of a coalition"):
        LeaveOneOut()(known, [1, 1])


def test_a_task_with_too_many_coalitions_is_not_posted() -> None:
    most = int((MAX_MEMBERS + 0.25) ** 0.5 - 0.5)
    assert most * (most + 1) <= MAX_MEMBERS < (most + 1) * (most + 2)
    check_work(SPEC, most, 1_000)
    with pytest.raises(ConfigError, match="members a round; the limit is") as caught:
        check_work(SPEC, most + 1, 1_000)
    assert caught.value.remedy
    check_work(SPEC, 10, MAX_SUMS // 110)
    with pytest.raises(ConfigError, match="measurement of coalitions needs"):
        check_work(SPEC, 10, MAX_SUMS // 110 + 1)
    # Of a rule that takes many steps, each coalition takes as many.
    slow = Method(method="geometric_median@1", params={"iterations": 10_000})
    check_work(SPEC.model_copy(update={"aggregation": slow, "contribution": Method(method="equal@1")}), 300, 1_000)
    with pytest.raises(ConfigError, match="geometric_median@1 needs"):
        check_work(SPEC.model_copy(update={"aggregation": slow}), 300, 1_000)


# -- claims ------------------------------------------------------------------------------------------------------


def test_a_judgement_takes_no_normalisation_that_trusts_claims() -> None:
    nova = {"method": "fednova@1", "params": {"max_steps": 10}}
    judged = {"judgement": JudgementSpec(), "normalisation": Method.model_validate(nova)}
    with pytest.raises(ConfigError, match="fednova@1 magnifies") as caught:
        evaluated([entry(0, 1.0)], **judged)
    assert caught.value.remedy and "fednova@2" in caught.value.remedy
    assert evaluated([entry(0, 1.0)], **{**judged, "judgement": None}).model.any()
    for other in ("fednova@2", "median_clip@1"):
        assert evaluated([entry(0, 1.0)], **{**judged, "normalisation": Method(method=other)}).model.any()


# -- on a ledger -------------------------------------------------------------------------------------------------

PLAIN = 'contribution = { method = "leave_one_out@1" }'
JUDGED = PLAIN + '\nevidence = { method = "work@1" }\njudgement = {}\n'
SEALED = 'validation_access = "sealed"\nvalidation_slice = 60'


def reports(small: Small) -> list[dict[str, Any]]:
    store = LocalStore(small.folder / "store")
    return [canonical.decode(store.get(r.proposal.report)) for r in small.run.task.settled if r.proposal is not None]


@pytest.mark.parametrize(
    ("extra", "data"), quick(1, [(JUDGED, ""), (PLAIN, ""), (JUDGED, SEALED)], ["judged", "plain", "sealed"])
)
def test_a_run_is_reproduced_by_its_audit_and_pays_the_same_without_a_ledger(
    tmp_path: Path, extra: str, data: str
) -> None:
    small = run_small(tmp_path, Chain(EMBEDDED), rounds=3, extra=extra, data=data)
    result = audit_run(tmp_path)
    assert result.reproduced and result.measured
    for report in reports(small):
        paid = [row["participant"] for row in report["updates"] if row["weight"]]
        assert [told["members"] for told in report["coalitions"]] == [
            paid,
            *([other for other in paid if other != owner] for owner in paid),
        ]
        assert all(("margin" in told["measurement"]) == (extra == JUDGED) for told in report["coalitions"])
    shares = [dict(r.proposal.shares) for r in small.run.task.settled if r.proposal is not None]
    assert any(shares)
    experiment = make_experiment(load_config(tmp_path / "config.toml"), tmp_path)
    played = list(play(MemoryRecord(experiment, judged=True), Serial(experiment)))
    assert played[-1].model.vector.tobytes() == small.run.final.vector.tobytes()
    numbers = {experiment.address(number): number for number in range(4)}
    owners = small.run.history.owners
    assert [{numbers[owners[i]]: units for i, units in paid.items() if units} for paid in shares] == [
        {number: units for number, units in closed.shares.items() if units} for closed in played
    ]


def test_while_the_validation_set_is_sealed_coalitions_are_taken_as_they_were_posted(tmp_path: Path) -> None:
    small = run_small(tmp_path, Chain(EMBEDDED), rounds=1, extra=JUDGED, data=SEALED)
    store = LocalStore(tmp_path / "store")
    spec = read_terms(small.run.task, store)
    place = small.run.ledger.chain.chain_id, small.run.ledger.address, 1
    known = ReplayedTask(small.run.history, small.run.task, spec, store, None, place, awaits_key=True)
    replay = replay_round(known, small.run.task.rounds[1])
    (report,) = reports(small)
    updates = [row for row in report["updates"] if row["measurement"] is not None]
    assert replay.valid and replay.sealed == 2 + len(updates) + len(report["coalitions"])


class Partial:
    """Measures as another measurer does, but makes one coalition seem worse than the tolerance allows."""

    def __init__(self, measure: Any) -> None:
        self._measure = measure

    def __call__(self, what: str, vector: NDArray[np.float32]) -> Measurement:
        return self._measure(what, vector)  # type: ignore[no-any-return]

    def each(self, named: Iterable[Named]) -> list[Measurement]:
        given = list(named)
        found = self._measure.each(given)
        told = zip(given, found, strict=True)
        worse = SPEC.tolerance.loss + 1
        return [replace(m, loss=m.loss + worse) if what == "coalition 3" else m for (what, _), m in told]


def test_who_lies_about_one_coalition_and_pays_by_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = proposing.round_outcome
    monkeypatch.setattr(proposing, "round_outcome", lambda given, measure: real(given, Partial(measure)))
    run_small(tmp_path, Chain(EMBEDDED), rounds=1, extra=PLAIN)
    found = audit_run(tmp_path).first_divergence
    assert found is not None and found.round == 1 and found.field == "measurement of coalition 3: loss"
    assert found.found == found.expected + SPEC.tolerance.loss + 1


@pytest.mark.parametrize(
    ("altered", "field"),
    [
        (lambda told: told[:-1], "measurement of coalition 5"),
        (lambda told: [*told, told[0]], "report.coalitions"),
        (lambda told: [{**told[0], "members": told[0]["members"][::-1]}, *told[1:]], "report.coalitions"),
        (lambda told: [{**told[0], "measurement": 7}, *told[1:]], "measurement of coalition 1"),
        (lambda told: {"a": 1}, "report"),
        (lambda told: 5, "report"),
        (lambda told: None, "report"),
        (lambda told: [[]], "report"),
    ],
)
def test_whatever_a_report_tells_of_coalitions_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, altered: Any, field: str
) -> None:
    real = proposing.round_outcome

    def lying(*given: Any) -> RoundOutcome:
        outcome = real(*given)
        document = {**outcome.document, "coalitions": altered(outcome.document["coalitions"])}
        return replace(outcome, document=document, report=Content.of(canonical.encode(document)))

    monkeypatch.setattr(proposing, "round_outcome", lying)
    run_small(tmp_path, Chain(EMBEDDED), rounds=1, extra=PLAIN)
    found = audit_run(tmp_path).first_divergence
    assert found is not None and found.round == 1 and found.field == field
