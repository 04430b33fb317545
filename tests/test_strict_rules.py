"""Methods that need rows for their f: what they are without enough, with equal weights, and against other means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_coalitions import SPEC, Distance, evaluated
from test_coalitions import entry as an_entry
from test_rules import STRICT, a_round, fixed, hostile, run

from fedledger.aggregator.mixings.base import MIXINGS
from fedledger.aggregator.round.methods import check_rows
from fedledger.aggregator.round.pipeline import RoundContext, evaluate_round
from fedledger.aggregator.rules.aggregate import Rows, aggregate
from fedledger.aggregator.rules.base import MAX_WEIGHT, RULES, NeedsRows, sorted_by_value
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import EMBEDDED
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.cautions import cautions
from fedledger.platform.experiment.config import DEMO, load_config
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.protocol.arithmetic.exact import LIMIT, OutOfRangeError
from fedledger.protocol.encoding import canonical
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.verdicts import Verdict
from fedledger.storage.local import LocalStore
from support.examples import examples
from support.rules import DEFAULTS, MIXING_DEFAULTS, NNM, STRICT_NNM, WEIGHTED_NNM
from support.small import run_small, write_config

LEAST = {"trimmed_mean@2": (2, 1), "multi_krum@3": (2, 3), "bulyan@2": (4, 3), "dnc@2": (2, 1)}
"""Rows that a rule needs for each hostile one, and besides."""
FORMS = {
    "median@2": "median@1",
    "weighted_median@1": "median@1",
    "trimmed_mean@2": "trimmed_mean@1",
    "multi_krum@3": "multi_krum@1",
    "bulyan@2": "bulyan@1",
    "dnc@2": "dnc@1",
    "fltrust@2": "fltrust@1",
}
"""Weighted rules, and those that they are where all weights are equal."""
WEIGHTS = st.lists(st.integers(1, MAX_WEIGHT), min_size=9, max_size=9)


# -- the fewest rows ---------------------------------------------------------------------------------------------


def test_rules_that_need_rows_are_those_that_say_so() -> None:
    assert set(LEAST) == STRICT
    made = {name: build(RULES, name, params) for name, params in DEFAULTS.items()}
    assert {name for name, rule in made.items() if rule.least_rows > 1} >= STRICT
    older = set(FORMS.values()) | {"mean@1", "multi_krum@2", "geometric_median@1", "foolsgold@1"}
    assert not any(made[name].least_rows for name in older)
    assert {name for name in (WEIGHTED_NNM, STRICT_NNM) if build(MIXINGS, name, {"f": 2}).least_rows} == {STRICT_NNM}


@pytest.mark.parametrize("name", sorted(LEAST))
@pytest.mark.parametrize("f", [0, 1, 3])
def test_a_rule_never_lowers_f(name: str, f: int) -> None:
    times, spare = LEAST[name]
    least = times * f + spare
    assert build(RULES, name, {"f": f}).least_rows == least
    rows = hostile(1, least + 1, 0)
    outcome = run(name, rows, f=f, weights=[0, *[1] * least])
    assert outcome.diagnostics.get("f", f) == f
    if least > 1:
        with pytest.raises(RoundError, match=f"{name} with f = {f} needs {least} updates that count; there are 1"):
            run(name, rows, f=f, weights=[0, 1] + [0] * (least - 1))


def test_a_mixing_never_lowers_f() -> None:
    rows, mixing = hostile(1, 7, 0), build(MIXINGS, STRICT_NNM, {"f": 3})
    mean = build(RULES, "trimmed_mean@2", {"f": 1})
    assert aggregate(mean, Rows(rows, [1] * 7), 1, mixing).diagnostics["mixed"] == 4
    with pytest.raises(
        RoundError, match="nearest_neighbour_mixing@3 with f = 3 needs 7 updates that count; there are 6"
    ):
        aggregate(mean, Rows(rows, [1] * 6 + [0]), 1, mixing)


def test_outliers_of_a_subset_are_fewer_than_the_rows() -> None:
    assert build(RULES, "dnc@2", {"f": 2, "filtering": 3.0}).least_rows == 7


def test_a_task_whose_rounds_have_too_few_participants_is_not_posted(tmp_path: Path) -> None:
    strict = SPEC.model_copy(update={"aggregation": Method(method="trimmed_mean@2", params={"f": 3})})
    check_rows(strict, 7)
    with pytest.raises(
        ConfigError, match=r"trimmed_mean@2 with f = 3 needs 7 .*; a round of this task has 6"
    ) as caught:
        check_rows(strict, 6)
    assert "at least 7 participants" in str(caught.value.remedy)
    mixed = strict.model_copy(update={"mixing": Method(method=STRICT_NNM, params={"f": 4})})
    with pytest.raises(ConfigError, match="nearest_neighbour_mixing@3 with f = 4 needs 9"):
        check_rows(mixed, 8)
    rule = 'aggregation = { method = "trimmed_mean@2", params = { f = 2 } }\n'
    chosen = 'selection = { method = "uniform@1", params = { count = 4 } }\n'
    make_experiment(load_config(write_config(tmp_path, participants=5, extra=rule)), tmp_path)
    for participants, extra in ((4, rule), (5, rule + chosen)):
        with pytest.raises(ConfigError, match=r"trimmed_mean@2 with f = 2 needs 5 .* has 4 at most"):
            make_experiment(load_config(write_config(tmp_path, participants=participants, extra=extra)), tmp_path)


def test_a_schedule_whose_steps_are_too_small_for_the_rule_is_not_posted(tmp_path: Path) -> None:
    extra = (
        'aggregation = { method = "trimmed_mean@2", params = { f = 2 } }\n'
        'schedule = { method = "fedbuff@1", params = { buffer = BUFFER, concurrency = 6, max_staleness = 2 } }\n'
        '[devices]\nkinds = [{ link = "4g" }]\n[ledger]\nmax_staleness = 2\n'
    )
    for buffer, enough in ((5, True), (4, False)):
        written = write_config(tmp_path, participants=6, extra=extra.replace("BUFFER", str(buffer)))
        if enough:
            make_experiment(load_config(written), tmp_path)
            continue
        with pytest.raises(ConfigError, match="needs 5 updates that count; a round of this task has 4 at most"):
            make_experiment(load_config(written), tmp_path)


# -- a round without them ----------------------------------------------------------------------------------------


def test_a_round_with_too_few_updates_that_count_moves_nothing_and_pays_nobody() -> None:
    rule = Method(method="trimmed_mean@2", params={"f": 1})
    norm = [Method(method="norm@1", params={"least": 0.0, "most": 5.0})]
    momentum = Method(method="fedavgm@1", params={"momentum": 0.5})
    spec = SPEC.model_copy(update={"aggregation": rule, "detection": norm, "optimiser": momentum})
    entries = [an_entry(0, 2.0), an_entry(1, 40.0), an_entry(2, 1.0), an_entry(3, 1.5)]
    enough = evaluated(entries, aggregation=rule, detection=norm, optimiser=momentum)
    assert enough.model.any() and any(enough.shares) and enough.diagnostics["f"] == 1

    base, state = np.ones(1, np.float32), replace(enough.state, stale=3)
    context = RoundContext(spec, base, state, [10**6] * 3, 3, units=100)
    measure = Distance()
    result = evaluate_round(context, entries[:3], measure)
    assert result.diagnostics == {"counted": 2, "needed": 3}
    assert result.verdicts == [Verdict.ACCEPTED, Verdict.NORM, Verdict.ACCEPTED]
    assert result.model is base and result.state is state and not result.stop
    assert not (*result.weights, *result.scores, *result.shares, *result.coalitions)
    assert not any("coalition" in what or what == "model" for asked in measure.asked for what in asked)
    # One without a quorum says nothing of that, as before.
    assert evaluate_round(replace(context, enough=False), entries[:3], measure).diagnostics == {}


def test_a_coalition_with_too_few_updates_has_the_base_model() -> None:
    result = evaluated(
        [an_entry(i, step) for i, step in enumerate((1.0, 2.0, 3.0))],
        aggregation=Method(method="trimmed_mean@2", params={"f": 1}),
    )
    assert result.coalitions[0, 1, 2].loss == 0
    assert {members: one.loss for members, one in result.coalitions.items() if len(members) == 2} == {
        (0, 1): result.base_measurement.loss,
        (0, 2): result.base_measurement.loss,
        (1, 2): result.base_measurement.loss,
    }


def test_on_a_ledger_such_a_round_is_audited_and_the_same_without_one(tmp_path: Path) -> None:
    """In the second round a participant sends noise and is refused, so that four count."""
    extra = (
        'aggregation = { method = "trimmed_mean@2", params = { f = 2 } }\n'
        'mixing = { method = "nearest_neighbour_mixing@3", params = { f = 1 } }\n'
        "[[attackers]]\ncount = 1\n"
        'attack = { method = "on_off@1", params = { turn = 2, attack = "gaussian@1", params = { deviation = 9.0 } } }\n'
    )
    made = run_small(tmp_path, Chain(EMBEDDED), participants=5, rounds=2, extra=extra)
    store = LocalStore(tmp_path / "store")
    proposals = [made.run.task.rounds[index].proposal for index in (1, 2)]
    reports = [canonical.decode(store.get(proposal.report)) for proposal in proposals if proposal is not None]
    assert reports[0]["model"] != reports[0]["base"] and "counted" not in reports[0]["aggregation"]
    before, after = reports
    assert after["aggregation"] == {"counted": 4, "needed": 5}
    assert after["model"] == after["base"] == before["model"] and after["state"] == before["state"]
    verdicts = [update["verdict"] for update in after["updates"]]
    assert verdicts.count("accepted") == 4 and sum(update["share"] for update in after["updates"]) == 0
    result = audit_run(tmp_path)
    assert result.reproduced and result.rounds == 2

    folder = tmp_path / "plain"
    folder.mkdir()
    plain = run_without_ledger(make_experiment(load_config(tmp_path / "config.toml"), tmp_path), folder, "serial")
    assert plain["final_model"] == made.summary["final_model"]


# -- equal weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FORMS))
@examples(25)
@given(st.integers(0, 2**32), st.integers(1, MAX_WEIGHT), st.booleans(), st.sampled_from([None, 2]))
def test_equal_weights_are_none(name: str, seed: int, weight: int, tied: bool, mix: int | None) -> None:
    # Of mixed rows these two look at the mixtures, and their first versions at what was mixed.
    assume(mix is None or name not in ("dnc@2", "fltrust@2"))
    rows = np.random.default_rng(seed).integers(-2, 3, (9, 5)) if tied else hostile(seed, 9, 2)
    # Of copies that tie for a place, Krum's and divide and conquer's first versions take one by its address.
    assume(not tied or name not in ("multi_krum@3", "dnc@2") or len({tuple(row) for row in rows.tolist()}) == 9)
    first, second = (run(one, rows, weights=[weight] * 9, mix=mix, stage=a_round(rows)) for one in (FORMS[name], name))
    if not tied or name not in ("multi_krum@3", "dnc@2"):
        assert first.delta.tolist() == second.delta.tolist()
    assert first.diagnostics.get("f") == second.diagnostics.get("f")


@examples(40)
@given(st.integers(0, 2**32), WEIGHTS)
def test_a_strict_form_is_the_weighted_one_where_it_has_the_rows(seed: int, weights: list[int]) -> None:
    rows = hostile(seed, 9, 2)
    assert run("multi_krum@3", rows, weights=weights).delta.tolist() == (
        run("multi_krum@2", rows, weights=weights).delta.tolist()
    )
    mixings = [build(MIXINGS, name, MIXING_DEFAULTS[name]) for name in (WEIGHTED_NNM, STRICT_NNM)]
    first, second = (aggregate(build(RULES, "median@2", {}), Rows(rows, weights), 1, mixing) for mixing in mixings)
    assert first.delta.tolist() == second.delta.tolist()


# -- weights -----------------------------------------------------------------------------------------------------


def trimmed(column: Sequence[int], weights: Sequence[int], f: int) -> int:
    """The weighted mean between f / n of the weight and the rest but that, in fractions."""
    total = sum(weights)
    cut = Fraction(f * total, len(weights))
    upto, kept = 0, Fraction(0)
    for value, weight in sorted(zip(column, weights, strict=True)):
        kept += max(Fraction(0), min(upto + weight, total - cut) - max(upto, cut)) * value
        upto += weight
    return round(kept / (total - 2 * cut))


@examples(80)
@given(st.data())
def test_a_trimmed_mean_cuts_the_weight_of_f_rows(data: st.DataObject) -> None:
    f = data.draw(st.integers(0, 4))
    n = data.draw(st.integers(2 * f + 1, 12))
    most = data.draw(st.sampled_from([2, 5, MAX_WEIGHT]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    bound = int(rng.choice([3, 1 << 28, LIMIT]))
    rows = rng.integers(-bound, bound, (n, 6), np.int64, endpoint=True)
    weights = [int(weight) for weight in rng.integers(1, most + 1, n)]
    found = run("trimmed_mean@2", rows, f=f, weights=weights).delta.tolist()
    assert found == [trimmed(column, weights, f) for column in rows.T.tolist()]


@examples(60)
@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([1, 1 << 40, 1 << 56, (1 << 62) - 1]))
def test_values_are_sorted_with_the_weight_up_to_each(seed: int, n: int, bound: int) -> None:
    """Whether a value and its row fit in one integer or not; equal values in the order of their rows."""
    rng = np.random.default_rng(seed)
    block = rng.integers(-bound, bound, (n, 4), np.int64, endpoint=True)
    weights = [int(weight) for weight in rng.integers(1, MAX_WEIGHT, n)]
    values, upto = sorted_by_value(block, weights)
    for column, found, sums in zip(block.T.tolist(), values.T.tolist(), upto.T.tolist(), strict=True):
        order = sorted(range(n), key=lambda i: (column[i], i))
        assert found == [column[i] for i in order]
        assert sums == list(accumulate(weights[i] for i in order))


@pytest.mark.parametrize("f", [0, 1, 1365, 2047])
def test_a_trimmed_mean_of_the_largest_round_does_not_overflow(f: int) -> None:
    rng = np.random.default_rng(f)
    rows = np.where(rng.random((4096, 3)) < 0.5, -LIMIT, LIMIT)
    rows[:, 0], rows[:, 1] = LIMIT, -LIMIT
    weights = [MAX_WEIGHT - int(less) for less in rng.integers(0, 3, 4096)]
    found = run("trimmed_mean@2", rows, f=f, weights=weights, stage=a_round(rows[:2])).delta.tolist()
    assert found == [trimmed(column, weights, f) for column in rows.T.tolist()]
    assert found[:2] == [LIMIT, -LIMIT]


@pytest.mark.parametrize("name", ["trimmed_mean@2", "bulyan@2"])
def test_mixed_rows_do_not_overflow(name: str) -> None:
    rows, weights = np.full((2048, 2), -LIMIT, np.int64), [MAX_WEIGHT - 1, *[MAX_WEIGHT] * 2047]
    given_ = Rows(rows, weights, gram=np.zeros((2048, 2048), np.int64))
    outcome = aggregate(build(RULES, name, {"f": 0}), given_, 1, build(MIXINGS, NNM, {"f": 0}))
    assert outcome.delta.tolist() == [-LIMIT, -LIMIT]


@pytest.mark.parametrize("name", ["trimmed_mean@2", "bulyan@2"])
def test_weights_that_cannot_be_summed_are_refused(name: str) -> None:
    with pytest.raises(OutOfRangeError, match="Scale the weights down"):
        run(name, hostile(1, 9, 2), weights=[MAX_WEIGHT + 1, *[1] * 8])


@examples(40)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 4), min_size=5, max_size=5))
def test_a_row_of_some_weight_counts_as_so_many_rows(seed: int, weights: list[int]) -> None:
    rng = np.random.default_rng(seed)
    rows = fixed(rng.normal(size=(5, 4)))
    repeated = np.repeat(rows, weights, axis=0)
    trusted = a_round(rows, trusted=rows[0] + rows[1]), a_round(repeated, trusted=rows[0] + rows[1])
    assert run("median@2", rows, weights=weights).delta.tolist() == run("median@1", repeated).delta.tolist()
    by_weight = run("fltrust@2", rows, weights=weights, stage=trusted[0]).delta
    np.testing.assert_allclose(by_weight, run("fltrust@1", repeated, stage=trusted[1]).delta, atol=2)
    centre = run("geometric_median@2", rows, weights=weights).delta
    np.testing.assert_allclose(centre, run("geometric_median@2", repeated).delta, atol=4)
    # f rows of five are a whole number of the repeated ones where the weights' sum is a multiple of five.
    five = [*weights[:4], weights[4] + -sum(weights) % 5]
    cut = sum(five) // 5
    trim = run("trimmed_mean@2", rows, f=1, weights=five).delta.tolist()
    assert trim == run("trimmed_mean@1", np.repeat(rows, five, axis=0), f=cut).delta.tolist()


@examples(40)
@given(st.integers(0, 2**32), st.lists(st.integers(1, MAX_WEIGHT), min_size=11, max_size=11))
def test_bulyan_averages_by_weight_near_the_median(seed: int, weights: list[int]) -> None:
    """Against fractions; of equal values the one of more weight is nearer."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-3, 4, (11, 5)) if rng.random() < 0.5 else hostile(seed, 11, 2)
    outcome = run("bulyan@2", rows, f=2, weights=weights)
    chosen = outcome.diagnostics["selected"]
    assert chosen == run("bulyan@1", rows, f=2).diagnostics["selected"] and len(chosen) == 7
    for column, value in zip(rows.T.tolist(), outcome.delta.tolist(), strict=True):
        picked = [(column[i], weights[i]) for i in chosen]
        ordered = sorted(number for number, _ in picked)
        nearest = sorted(picked, key=lambda pair: (abs(pair[0] - ordered[3]), pair[0], -pair[1]))[:3]
        total = sum(weight for _, weight in nearest)
        assert value == round(Fraction(sum(number * weight for number, weight in nearest), total))


def test_divide_and_conquer_lets_copies_share_the_last_places() -> None:
    """Of three copies farthest along the main direction, two are outliers: each counts with a third of its weight."""
    rows = fixed([[0.0], [0.5], [-0.5], [0.25], [9.0], [9.0], [9.0]])
    weights = [1, 1, 1, 1, 3, 6, 9]
    outcome = run("dnc@2", rows, f=2, weights=weights)
    expected = Fraction(int(rows[:4].sum()) + 6 * int(rows[4, 0]), 4 + 6)
    assert outcome.delta.tolist() == [round(expected)]
    order = [6, 3, 0, 5, 2, 4, 1]
    again = run("dnc@2", rows[order], f=2, weights=[weights[i] for i in order])
    assert again.delta.tolist() == outcome.delta.tolist()


def test_divide_and_conquer_averages_those_in_the_fewest_subsets_if_all_are_outliers() -> None:
    rows, weights = fixed(np.random.default_rng(2).normal(size=(9, 12))), [3, 1, 4, 1, 5, 9, 2, 6, 5]
    params = {"iterations": 40, "coordinates": 3}
    outcome, first = (run(name, rows, f=4, weights=weights, params=params) for name in ("dnc@2", "dnc@1"))
    chosen = outcome.diagnostics["selected"]
    assert chosen == first.diagnostics["selected"] and len(chosen) < 5
    mean = run("mean@1", rows[chosen], weights=[weights[i] for i in chosen])
    assert outcome.delta.tolist() == mean.delta.tolist()


# -- the geometric median ----------------------------------------------------------------------------------------


def distances(rows: np.ndarray, weights: Sequence[int], point: np.ndarray) -> float:
    return float((np.array(weights) * np.sqrt(((rows.astype(float) - point) ** 2).sum(axis=1))).sum())


def least(rows: np.ndarray, weights: Sequence[int]) -> float:
    """The least sum of distances to any row, or that Weiszfeld's steps find from the mean in 80-bit numbers."""
    wide, by = rows.astype(np.longdouble), np.array(weights, np.longdouble)
    point = by @ wide / by.sum()
    for _ in range(30_000):
        apart = np.sqrt(((wide - point) ** 2).sum(axis=1))
        if not apart.min():
            break
        pulls = by / apart
        following = pulls @ wide / pulls.sum()
        if np.abs(following - point).max() < 1e-17 * np.abs(wide).max():
            break
        point = following
    return min(distances(rows, weights, point), *(distances(rows, weights, row) for row in rows))


def placed(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    n, d = int(rng.integers(3, 13)), int(rng.integers(1, 6))
    rows, weights = rng.normal(size=(n, d)), [int(weight) for weight in rng.integers(1, 1000, n)]
    if kind == "collinear":
        rows = np.outer(rng.normal(size=n), rng.normal(size=d))
    elif kind == "nearly collinear":
        rows = np.outer(rng.normal(size=n), rng.normal(size=d)) + 1e-4 * rows
        weights = [1] * n
    elif kind == "copies":
        rows[: n // 2] = rows[0]
    elif kind == "at a row":
        rows[0], weights[0] = rows[1:].mean(axis=0), sum(weights[1:])
    elif kind == "near a row":
        # Its weight is a little less than the others' pull.
        apart = rows[1:] - rows[0]
        pull = np.array(weights[1:]) @ (apart / np.sqrt((apart**2).sum(axis=1))[:, None])
        weights[0] = max(1, int(np.sqrt((pull**2).sum()) * (1 - 10.0 ** -rng.integers(1, 5))))
    elif kind == "far outliers":
        rows, weights = rows / 1e4, [1 + weight % 3 for weight in weights]
        rows[: (n - 1) // 2] *= 1e6
    return fixed(rows), weights


@pytest.mark.parametrize(
    "kind", ["any", "collinear", "nearly collinear", "copies", "at a row", "near a row", "far outliers"]
)
@pytest.mark.parametrize("seed", range(12))
def test_no_point_has_a_lower_sum_of_distances(kind: str, seed: int) -> None:
    rows, weights = placed(kind, np.random.default_rng(seed))
    outcome = run("geometric_median@2", rows, weights=weights)
    best = least(rows, weights)
    assert distances(rows, weights, outcome.delta) <= best * (1 + 1e-9) + 1
    if kind == "at a row":
        assert outcome.diagnostics["iterations"] == 0 and outcome.delta.tolist() == rows[0].tolist()
    # Nearly all points between the middle two of nearly collinear rows have one sum, so that nothing pulls.
    assert kind == "nearly collinear" or outcome.diagnostics["iterations"] < 1000


def test_a_row_near_the_geometric_median_does_not_hold_the_steps_up() -> None:
    """Its pull is a ten-thousandth too weak: Weiszfeld's steps alone would be tens of thousands."""
    rows = fixed([[0.0, 0.0], [1.0, 0.2], [1.0, -0.4], [0.5, 1.0], [-0.3, 0.8]])
    apart = rows[1:] / np.sqrt((rows[1:].astype(float) ** 2).sum(axis=1))[:, None]
    pull = float(np.sqrt((apart.sum(axis=0) ** 2).sum()))
    weights = [int(pull * (1 - 1e-4) * 1000), *[1000] * 4]
    outcome = run("geometric_median@2", rows, weights=weights)
    assert 0 < outcome.diagnostics["iterations"] < 50
    shifts = np.random.default_rng(1).normal(size=(200, 2)) * np.array([[10.0**-k] for k in range(200)]) ** 0.1
    found = distances(rows, weights, outcome.delta)
    assert all(found <= distances(rows, weights, outcome.delta + fixed(shift)) * (1 + 1e-12) for shift in shifts)


def test_copies_of_the_geometric_median_s_row_pull_together() -> None:
    """Three of seven rows at one point; the pull of the others there is √8 < 3, and more than two."""
    rows = fixed([[0.0, 0.0]] * 3 + [[2.0, 0.0], [0.0, 2.0], [5.0, 0.0], [0.0, 1.0]])
    assert run("geometric_median@2", rows).delta.tolist() == [0, 0]
    assert run("geometric_median@2", rows[1:]).delta.tolist() != [0, 0]


def test_values_at_the_limit_do_not_overflow() -> None:
    rows = np.array([[LIMIT] * 70, [-LIMIT] * 70, [LIMIT, *[-LIMIT] * 69], [0] * 70, [1] * 70], np.int64)
    outcome = run("geometric_median@2", rows, weights=[1 << 40, 1 << 40, 1, 1, 1])
    assert distances(rows, [1 << 40, 1 << 40, 1, 1, 1], outcome.delta) <= distances(
        rows, [1 << 40, 1 << 40, 1, 1, 1], rows[3]
    ) * (1 + 1e-9)


def test_needs_rows_is_none_by_default() -> None:
    named: list[Any] = [NeedsRows(), build(RULES, "mean@1", {})]
    assert [one.least_rows for one in named] == [0, 0]


@pytest.mark.parametrize(
    ("f", "m", "least"), [(2, None, 7), (2, 1, 7), (2, 5, 7), (2, 6, 8), (0, 999, 999), (3, 9, 12)]
)
def test_krum_never_averages_rows_that_it_is_to_leave_out(f: int, m: int | None, least: int) -> None:
    rule = build(RULES, "multi_krum@3", {"f": f, "m": m})
    assert rule.least_rows == least


@pytest.mark.parametrize(("f", "spare"), [(1, True), (2, False)])
def test_whoever_runs_a_task_is_told_that_those_it_tolerates_can_stop_it(f: int, spare: bool) -> None:
    config = load_config(DEMO)
    training = config.training.model_copy(
        update={"aggregation": Method(method="trimmed_mean@2", params={"f": f}), "rounds": 1}
    )
    few = config.model_copy(update={"participants": 5, "attackers": (), "training": training})
    experiment = make_experiment(few, Path())
    told = [caution for caution in cautions(experiment) if "changes nothing and pays nobody" in caution]
    assert bool(told) is not spare
    if told:
        assert "trimmed_mean@2 with f = 2 needs 5 updates that count, and a round has 5 at most" in told[0]
        assert "With 7" in told[0]
