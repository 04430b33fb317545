"""Contribution scores in rounds: what they ask for, what they pay, what they remember, and that audits find lies."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_coalitions import DOUBT, PLAIN, SPEC, UNIT, Distance, entry, reports
from typer.testing import CliRunner

from fedledger.aggregator.context.round_features import RoundFeatures
from fedledger.aggregator.context.stage_context import StageContext
from fedledger.aggregator.contributions.base import CONTRIBUTIONS, Coalition, Estimate
from fedledger.aggregator.contributions.cgsv import cosines_to_aggregate
from fedledger.aggregator.contributions.game_value import MOST_EXACT, PARTS
from fedledger.aggregator.duties import proposing
from fedledger.aggregator.evidence.tallies import owner_words
from fedledger.aggregator.games.game import members, value_of
from fedledger.aggregator.games.hyperbolic import ONE
from fedledger.aggregator.games.semivalues import shapley
from fedledger.aggregator.round.measurer import Measurer
from fedledger.aggregator.round.methods import Staged, check_work
from fedledger.aggregator.round.outcome import Content
from fedledger.aggregator.round.pipeline import RoundContext, RoundResult, evaluate_round
from fedledger.aggregator.round.state import State
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import EMBEDDED
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.ledger_tools.report.contributions import told_contributions
from fedledger.ledger_tools.report.task_view import TaskView
from fedledger.platform.cli.app import app
from fedledger.protocol.arithmetic.exact import IntArray, gram
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.measurement import Measurement
from fedledger.protocol.records.settlement import apportion
from fedledger.storage.local import LocalStore
from support.quick import quick
from support.small import run_small

EXACT = ("shapley@1", "banzhaf@1", "least_core@1", "comfedsv@1")
SAMPLED = ("tmc_shapley@1", "gtg_shapley@1", "fedsv@1")
OTHERS = ("cgsv@1", "held_out_gain@1", "peer_prediction@1")
STEPS = (3.0, 3.0, 0.0, 1.0)
UNITS = 1_000


def played(
    method: str,
    steps: Sequence[float] = STEPS,
    measure: Measurer | None = None,
    state: State | None = None,
    **params: Any,
) -> RoundResult:
    """A round of updates with one coordinate, whose mean should be 2."""
    spec = SPEC.model_copy(update={"contribution": Method(method=method, params=params)})
    entries = [entry(number, step) for number, step in enumerate(steps)]
    held = [one.reputation for one in entries]
    context = RoundContext(
        spec, np.zeros(1, np.float32), state or State(np.zeros(1, np.int64)), held, len(held), units=UNITS
    )
    return evaluate_round(context, entries, measure or Distance())


def worths(result: RoundResult, players: int = 4) -> list[int]:
    """What the model of each coalition is worth by a round's measurements: less its loss."""
    told = [result.coalitions[members(mask)] for mask in range(1, 1 << players)]
    return [-one.loss for one in (result.base_measurement, *told)]


def context_of(
    rows: IntArray, memory: Mapping[str, IntArray] | None = None, coalitions: Mapping[Coalition, int] | None = None
) -> StageContext:
    """A round of rows int64[n, d], of whose coalitions these are the worths beyond −1,000,000."""
    products = gram(np.vstack([rows, rows[:1], rows[:1]]))
    base = Measurement(1_000_000, 0)
    return StageContext(
        RoundFeatures(base, [base] * len(rows), [500_000] * len(rows), products),
        [f"0x{i:040x}" for i in range(len(rows))],
        [10] * len(rows),
        rows,
        draws=lambda: Stream(bytes(32)),
        memory=memory or {},
        coalitions={places: Measurement(1_000_000 - worth, 0) for places, worth in (coalitions or {}).items()},
    )


def estimated(result: RoundResult) -> list[int]:
    return [one.value for one in result.estimates if one is not None]


# -- rounds ------------------------------------------------------------------------------------------------------


def test_shapley_pays_what_updates_add() -> None:
    result = played("shapley@1")
    game = worths(result)
    values = value_of(shapley(4, game.__getitem__)).values
    assert estimated(result) == [round(value) for value in values]
    assert list(result.scores) == [max(0, round((value - DOUBT) * PARTS)) for value in values]
    assert list(result.shares) == apportion(UNITS, result.scores) and result.shares[0] == result.shares[1] > 0
    every = [places for n in range(1, 5) for places in itertools.combinations(range(4), n)]
    assert sorted(result.coalitions) == sorted(every)
    assert game[15] - game[0] == sum(values) and game[0] == -4_000_000 and game[3] == -1_000_000 == game[8]


@pytest.mark.parametrize("method", ["gtg_shapley@1", "tmc_shapley@1"])
def test_without_truncation_samples_of_all_orders_are_exact(method: str) -> None:
    params = {"within": 0.0, **({"between": 0.0, "settled": 0.0} if method == "gtg_shapley@1" else {})}
    result, exact = played(method, **params), played("shapley@1")
    assert result.scores == exact.scores and dict(result.coalitions) == dict(sorted_as(exact, result))
    assert all(one is not None and one.standard_error == 0 for one in result.estimates)


def sorted_as(exact: RoundResult, result: RoundResult) -> dict[Coalition, Measurement]:
    return {places: exact.coalitions[places] for places in result.coalitions}


def test_fedsv_of_few_is_exact_and_adds_up_in_each_round() -> None:
    result, exact = played("fedsv@1"), played("shapley@1")
    assert estimated(result) == estimated(exact)
    sampled = played("fedsv@1", orders=3)
    game = worths(exact)
    assert sum(estimated(sampled)) == pytest.approx(game[-1] - game[0], abs=4)
    assert any(one is not None and one.standard_error for one in sampled.estimates)


@pytest.mark.parametrize("method", [*EXACT, *SAMPLED, *OTHERS])
def test_refused_and_gated_updates_earn_nothing_and_are_in_no_coalition(method: str) -> None:
    spec = SPEC.model_copy(update={"contribution": Method(method=method)})
    entries = [entry(0, 2.0), entry(1, 1.5, reputation=1), entry(2, 1.0)]
    context = RoundContext(spec, np.zeros(1, np.float32), State(np.zeros(1, np.int64)), [1], 3, units=UNITS)
    result = evaluate_round(context, entries, Distance())
    assert result.weights[1] == 0 == result.scores[1] and result.estimates[1] is None
    assert not any(1 in places for places in result.coalitions) and len(result.estimates) == 3


@pytest.mark.parametrize("method", [*EXACT, *SAMPLED, *OTHERS])
def test_harm_earns_nothing_and_a_round_of_nobody_pays_nobody(method: str) -> None:
    result = played(method, (2.0, 2.0, 2.1, -4.0))
    assert result.scores[3] == 0 <= min(result.scores)
    assert list(played(method, ()).scores) == [] == list(played(method, ()).estimates)


@pytest.mark.parametrize("method", [*EXACT, *SAMPLED, *OTHERS])
def test_a_single_update_is_worth_what_it_gains(method: str) -> None:
    (estimate,) = played(method, (1.0,)).estimates
    assert estimate is not None
    if method in (*EXACT, *SAMPLED):
        assert estimate.value == 3_000_000


@pytest.mark.parametrize("method", [*EXACT, "fedsv@1", "gtg_shapley@1", "tmc_shapley@1"])
def test_in_a_round_that_is_too_large_all_earn_the_same(method: str) -> None:
    """So nobody stops a task by taking part; one that would ask so many is not posted."""
    most = build(CONTRIBUTIONS, method, {}).most_players  # type: ignore[attr-defined]
    result = played(method, [1.0] * (most + 1))
    assert result.coalitions == {} and set(result.scores) == {1} and set(estimated(result)) == {0}
    spec = SPEC.model_copy(update={"contribution": Method(method=method)})
    check_work(spec, most, 1_000)
    with pytest.raises(ConfigError, match=f"values {most:,} updates a round") as caught:
        check_work(spec, most + 1, 1_000)
    assert caught.value.remedy
    assert (most == MOST_EXACT) == (method in EXACT)


def test_values_within_the_tolerance_count_as_none() -> None:
    near = 2.0 * (1 - np.sqrt(1 - DOUBT / 4e6))
    for step, is_paid in ((near - 1e-4, False), (near + 1e-4, True)):
        result = played("shapley@1", (step,))
        assert any(result.scores) == is_paid and estimated(result)[0] > 0


def test_truncated_rounds_ask_little() -> None:
    """All is gained by the first, so orders end there; a round that gains nothing is not looked at."""
    result = played("gtg_shapley@1", [2.0] * 6)
    assert set(map(len, result.coalitions)) == {1, 6}
    assert len(played("gtg_shapley@1", [0.0] * 6).coalitions) == 1
    assert len(set(result.scores)) == 1 and estimated(result)[0] == round(Fraction(4_000_000, 6))


@pytest.mark.parametrize("method", ["gtg_shapley@1", "tmc_shapley@1"])
def test_no_more_coalitions_are_measured_than_the_parameter_says(method: str) -> None:
    rng = np.random.default_rng(1)
    measure = Distance()
    result = played(method, rng.normal(2, 2, 12).tolist(), measure, evaluations=40)
    assert len(result.coalitions) <= 40 and len(set(result.coalitions)) == len(result.coalitions)
    names = [what for asked in measure.asked for what in asked if what.startswith("coalition")]
    assert names == [f"coalition {number}" for number in range(1, len(names) + 1)]
    # Many are measured at once.
    assert sum(any(what.startswith("coalition") for what in asked) for asked in measure.asked) <= 13


def test_a_method_that_asks_for_more_than_it_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Greedy:
        def most_coalitions(self, rows: int) -> int:
            return 2

        def coalitions(self, context: StageContext, weights: Sequence[int]) -> Sequence[Coalition]:
            return [(0,), (1,), (2,)][: 1 + len(context.coalitions)]

        def __call__(self, context: StageContext, weights: Sequence[int]) -> list[int]:
            return [0] * len(weights)

    monkeypatch.setitem(CONTRIBUTIONS._methods, "leave_one_out@1", Greedy)
    with pytest.raises(RoundError, match="asks for more than the 2 coalitions"):
        spec = SPEC.model_copy(update={"seed": 77})
        context = RoundContext(spec, np.zeros(1, np.float32), State(np.zeros(1, np.int64)), [1] * 3, 3)
        evaluate_round(context, [entry(i, 1.0) for i in range(3)], Distance())


def test_a_score_says_what_it_lacks_outside_of_a_round() -> None:
    with pytest.raises(RoundError, match="no measurement of a coalition"):
        build(CONTRIBUTIONS, "shapley@1", {})(context_of(np.ones((2, 1), np.int64)), [1, 1])


# -- memory ------------------------------------------------------------------------------------------------------


def gains_of(method: Any, rounds: Sequence[Mapping[int, int]]) -> list[list[int]]:
    """Scores of rounds in which a coalition is worth what its members add up to; who is not named does not count."""
    memory: Mapping[str, IntArray] = {}
    scores = []
    for gains in rounds:
        places = sorted(gains)
        every = [c for n in range(1, len(places) + 1) for c in itertools.combinations(places, n)]
        rows = np.ones((4, 1), np.int64)
        context = context_of(rows, memory, {c: sum(gains[i] for i in c) for c in every})
        weights = [1 if i in gains else 0 for i in range(4)]
        scores.append(method(context, weights))
        memory = method.remember(context, weights)
    return scores


def test_fedsv_pays_what_a_sum_rises_above_its_highest() -> None:
    rounds = [{0: 10, 1: 5}, {0: -4, 1: 5}, {0: 3, 2: 1}, {0: 3, 1: -9}]
    found = gains_of(build(CONTRIBUTIONS, "fedsv@1", {}), rounds)
    assert found == [[s * PARTS for s in row] for row in ([10, 5, 0, 0], [0, 5, 0, 0], [0, 0, 1, 0], [2, 0, 0, 0])]


def test_comfedsv_completes_what_the_absent_would_have_added() -> None:
    """Each adds ten times its number plus ten in each round: who was asked once earns as if it had been there twice."""
    rounds = [{0: 10, 1: 20}, {0: 10, 1: 20, 2: 30}]
    first, second = gains_of(build(CONTRIBUTIONS, "comfedsv@1", {"rank": 1, "penalty": 1e-4}), rounds)
    assert first == [10 * PARTS, 20 * PARTS, 0, 0]
    assert second[:2] == [20 * PARTS, 40 * PARTS] and second[2] == pytest.approx(60 * PARTS, rel=0.02)
    federated = gains_of(build(CONTRIBUTIONS, "fedsv@1", {}), rounds)
    assert federated[1][2] == 30 * PARTS


def test_comfedsv_of_those_who_are_always_there_is_the_sum_of_exact_values() -> None:
    rounds = [{0: 10, 1: 20, 2: -5}, {0: 1, 1: 2, 2: 3}, {0: 100, 1: 0, 2: 7}]
    for window, expected in ((1, [100, 0, 7]), (2, [101, 2, 10]), (8, [111, 22, 5])):
        found = gains_of(build(CONTRIBUTIONS, "comfedsv@1", {"window": window}), rounds)
        assert found[-1] == [value * PARTS for value in (*expected, 0)]


@pytest.mark.parametrize("method", ["fedsv@1", "comfedsv@1", "cgsv@1"])
def test_memory_of_another_shape_is_an_error(method: str) -> None:
    made: Any = build(CONTRIBUTIONS, method, {})
    rows, known = np.ones((1, 1), np.int64), {(0,): 5}
    kept = made.remember(context_of(rows, {}, known), [1])
    assert sum(values.size for values in kept.values()) <= made.memory_size(1, 1)
    for name, values in kept.items():
        for wrong in (values[:0], np.append(values, 1), values[None]):
            with pytest.raises(ConfigError, match="of another shape"):
                made(context_of(rows, {**kept, name: wrong}, known), [1])
        # Whatever numbers a state holds, a round ends.
        for extreme in (-(1 << 63), (1 << 63) - 1):
            try:
                assert min(made(context_of(rows, {**kept, name: np.full_like(values, extreme)}, known), [1])) >= 0
            except ConfigError as error:
                assert "another shape" in error.message


# -- without measurements --------------------------------------------------------------------------------------------


def test_cgsv_keeps_what_it_thinks_of_a_sender() -> None:
    made: Any = build(CONTRIBUTIONS, "cgsv@1", {"alpha": 0.5, "beta": 2.0})
    rows = np.array([[3, 0], [3, 0], [0, 4], [-3, 0]], np.int64)
    weights = [1, 1, 1, 0]
    context = context_of(rows)
    # The aggregate of the unit vectors is (2, 1).
    expected = np.array([2, 2, 1]) / np.sqrt(5)
    first = np.array([one.value for one in made.estimates(context, weights)[:3]]) / 1e6
    assert first == pytest.approx(expected / 2, abs=2e-6)
    assert np.array(made(context, weights)) / ONE == pytest.approx([*np.tanh(expected), 0], abs=1e-6)
    again = replace(context, memory=made.remember(context, weights))
    second = np.array([one.value for one in made.estimates(again, weights)[:3]]) / 1e6
    assert second == pytest.approx(expected * 0.75, abs=2e-6)
    assert made(again, [0, 1, 1, 0])[0] == 0


def test_a_state_has_room_for_all_who_ever_joined() -> None:
    """Also where many more come than a task has places, one after the other."""
    method = Staged("contributions.0", build(CONTRIBUTIONS, "cgsv@1", {}))
    context = replace(context_of(np.ones((1, 1), np.int64)), owners=["0x" + "ff" * 20])
    many = [f"0x{number:040x}" for number in range(20_000)]
    before = {"owners": owner_words(many), "lasting": np.arange(len(many))}
    kept = method.remembered(replace(context, memory=before), [1])
    found = State.decode(State(np.zeros(1, np.int64), memories=kept).encode(), 1)
    assert all((found.memories[name] == values).all() for name, values in kept.items())
    assert [len(values) for values in kept.values()] == [20_001] * 2


def test_cgsv_follows_the_shapley_values_of_its_game() -> None:
    """v(S) = cos(u_S, u_N) of eight updates with 1,024 coordinates, of more and more noise (Xu et al. 2021)."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=1024) + np.linspace(0.5, 4, 8)[:, None] * rng.normal(size=(8, 1024))
        rows /= np.linalg.norm(rows, axis=1)[:, None]
        whole = rows.sum(axis=0)
        game = [0]
        for mask in range(1, 256):
            part = rows[list(members(mask))].sum(axis=0)
            game.append(round(1e9 * float(part @ whole / np.linalg.norm(part) / np.linalg.norm(whole))))
        exact = [float(value) for value in value_of(shapley(8, game.__getitem__)).values]
        fixed = np.rint(rows * (1 << 24)).astype(np.int64)
        found = cosines_to_aggregate(gram(fixed), [1] * 8)
        assert np.array(found) / ONE == pytest.approx(rows @ whole / np.linalg.norm(whole), abs=1e-5)
        assert np.corrcoef(exact, found)[0, 1] >= 0.97


def test_cosines_do_not_depend_on_the_lengths_of_updates() -> None:
    rows = np.random.default_rng(2).integers(-(1 << 20), 1 << 20, (5, 7))
    longer = rows * np.array([1, 3, 1000, 7, 2])[:, None]
    one, other = (cosines_to_aggregate(gram(each), [3, 1, 4, 1, 5]) for each in (rows, longer))
    assert np.array(one) == pytest.approx(np.array(other), abs=50)
    assert cosines_to_aggregate(gram(np.zeros((2, 3), np.int64)), [1, 1]) == [0, 0]


def test_held_out_gain_pays_what_the_round_has_measured() -> None:
    result = played("held_out_gain@1", (4.0, 8.0, -1.0))
    gains = [4_000_000 - one.loss for one in result.measurements]
    assert estimated(result) == gains and list(result.scores) == [max(0, gain - DOUBT) for gain in gains]
    assert result.coalitions == {} and result.scores[1] > result.scores[0] > 0 == result.scores[2]


def test_peer_prediction_pays_no_noise_no_zeros_and_no_minority_of_copies() -> None:
    rng = np.random.default_rng(4)
    truth = rng.normal(size=3000)
    honest = np.sign(truth + 0.7 * rng.normal(size=(9, 3000)))
    noise, zeros, constant = rng.choice([-1, 1], 3000), np.zeros(3000), np.ones(3000)
    copies = np.repeat(rng.choice([-1, 1], (1, 3000)), 3, axis=0)
    rows = np.vstack([honest, noise, zeros, constant, copies]).astype(np.int64) * UNIT
    paid = build(CONTRIBUTIONS, "peer_prediction@1", {})(context_of(rows), [1] * len(rows))
    assert min(paid[:9]) > 100_000 and paid[10] == paid[11] == 0
    assert max(paid[9], *paid[12:]) < 30_000
    some = build(CONTRIBUTIONS, "peer_prediction@1", {"coordinates": 1000})(context_of(rows), [1] * len(rows))
    assert some != paid and min(some[:9]) > 80_000
    # Nobody else is there to agree with.
    assert build(CONTRIBUTIONS, "peer_prediction@1", {})(context_of(rows[:1]), [1]) == [0]


# -- what scores do not promise: each is told in the method's documents ----------------------------------------------


@pytest.mark.parametrize("method", ["shapley@1", "banzhaf@1", "gtg_shapley@1", "tmc_shapley@1", "fedsv@1"])
def test_copies_together_earn_more_than_one(method: str) -> None:
    """Beside two others that meet the target, one, and then three names for the same."""
    one, three = played(method, (2.0, 2.0, 2.0)), played(method, (2.0, 2.0, 2.0, 2.0, 2.0))
    assert Fraction(one.scores[2], sum(one.scores)) == Fraction(1, 3)
    assert Fraction(sum(three.scores[2:]), sum(three.scores)) > Fraction(2, 5)


# -- on a ledger -------------------------------------------------------------------------------------------------


def configured(method: str) -> str:
    return f'contribution = {{ method = "{method}" }}'


@pytest.mark.parametrize("method", quick(2, ["gtg_shapley@1", "comfedsv@1", "fedsv@1", "cgsv@1", "least_core@1"]))
def test_a_run_is_reproduced_by_its_audit(tmp_path: Path, method: str) -> None:
    small = run_small(tmp_path, Chain(EMBEDDED), rounds=2, extra=configured(method))
    result = audit_run(tmp_path)
    assert result.reproduced and result.measured
    for report in reports(small):
        told = report["contributions"]
        paid = {row["participant"] for row in report["updates"] if row["weight"]}
        assert set(told) == paid
        sampled = method in SAMPLED
        assert all(set(one) == {"value", *(["standard_error"] if sampled else [])} for one in told.values())


def test_a_report_of_a_method_without_values_has_none(tmp_path: Path) -> None:
    small = run_small(tmp_path, Chain(EMBEDDED), rounds=1, extra=PLAIN)
    assert all("contributions" not in report for report in reports(small))


class Lying:
    """Measures as another measurer does, but makes some coalitions seem worse than the tolerance allows."""

    def __init__(self, measure: Any, first: int) -> None:
        self._measure, self._first = measure, first

    def __call__(self, what: str, vector: Any) -> Measurement:
        return self._measure(what, vector)  # type: ignore[no-any-return]

    def each(self, named: Any) -> list[Measurement]:
        given = list(named)
        told = zip(given, self._measure.each(given), strict=True)
        worse = SPEC.tolerance.loss + 1
        return [replace(m, loss=m.loss + worse) if self._lies(what) else m for (what, _), m in told]

    def _lies(self, what: str) -> bool:
        return what.startswith("coalition") and int(what.split()[1]) >= self._first


@pytest.mark.parametrize("first", [1, 3])
def test_who_lies_about_coalitions_and_so_steers_what_is_asked_next_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    real = proposing.round_outcome
    monkeypatch.setattr(proposing, "round_outcome", lambda given, measure: real(given, Lying(measure, first)))
    run_small(tmp_path, Chain(EMBEDDED), rounds=1, extra=configured("gtg_shapley@1"))
    found = audit_run(tmp_path).first_divergence
    assert found is not None and found.round == 1 and found.field == f"measurement of coalition {first}: loss"


@pytest.mark.parametrize(
    "altered",
    [
        lambda told: {owner: {**one, "value": one["value"] + 1} for owner, one in told.items()},
        lambda told: {owner: {"value": one["value"]} for owner, one in told.items()},
        lambda told: {},
        lambda told: None,
    ],
)
def test_whatever_a_report_tells_of_values_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, altered: Any
) -> None:
    real = proposing.round_outcome

    def lying(*given: Any) -> Any:
        outcome = real(*given)
        document = {**outcome.document, "contributions": altered(outcome.document["contributions"])}
        return replace(outcome, document=document, report=Content.of(canonical.encode(document)))

    monkeypatch.setattr(proposing, "round_outcome", lying)
    run_small(tmp_path, Chain(EMBEDDED), rounds=1, extra=configured("fedsv@1"))
    found = audit_run(tmp_path).first_divergence
    assert found is not None and found.round == 1 and found.field == "report.contributions"


def test_an_estimate_tells_its_error_where_there_is_one() -> None:
    assert Estimate(-3).document() == {"value": -3}
    assert Estimate(7, 0).document() == {"value": 7, "standard_error": 0}


def test_history_shows_what_updates_were_worth(tmp_path: Path) -> None:
    small = run_small(tmp_path, Chain(EMBEDDED), rounds=2, extra=configured("fedsv@1"))
    store = LocalStore(tmp_path / "store")
    told = TaskView.of(small.run.history, 1).contributions(store)
    rows = [(report["round"], row) for report in reports(small) for row in report["updates"] if row["weight"]]
    assert [(one.round, one.address, one.score, one.units) for one in told] == [
        (index, row["participant"], row["score"], row["share"]) for index, row in rows
    ]
    values = [one for report in reports(small) for one in report["contributions"].values()]
    assert sorted(one.value for one in told if one.value is not None) == sorted(one["value"] / 1e6 for one in values)
    shown = CliRunner().invoke(app, ["history", str(tmp_path), "--contributions", "--format", "json"])
    assert shown.exit_code == 0, shown.output
    assert [row["units"] for row in json.loads(shown.stdout)] == [one.units for one in told]


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"updates": 5, "contributions": 5},
        {"updates": [5, {}, {"participant": 3, "weight": 1}, {"participant": "0x1", "weight": "1"}]},
    ],
)
def test_what_a_stranger_s_report_tells_is_not_taken_for_granted(tmp_path: Path, document: Any) -> None:
    store = LocalStore(tmp_path)
    assert told_contributions(store, store.put(canonical.encode(document)), 1, {}) == []


def test_a_value_that_is_none_is_left_out(tmp_path: Path) -> None:
    store, rows = (
        LocalStore(tmp_path),
        [{"participant": "0x1", "weight": 2, "score": score} for score in ("9" * 30, -1, "x")],
    )
    for told in (5, {"0x1": 5}, {"0x1": {"value": "1", "standard_error": 1.5}}, {"0x1": {"value": True}}):
        data = canonical.encode({"updates": rows, "contributions": told})
        found = told_contributions(store, store.put(data), 3, {"0x1": 7})
        assert [(one.score, one.units, one.value, one.standard_error) for one in found] == [
            ("9" * 30, 7, None, None),
            (None, 7, None, None),
            (None, 7, None, None),
        ]
    assert told_contributions(store, store.put(b"\xff"), 1, {}) == []
