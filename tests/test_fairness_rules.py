"""Rules that care for the worst-off: against their formulas, and how little a lie about one's own loss is worth."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from test_rules import POINT, a_round, fixed, hostile

from fedledger.aggregator.context.start_losses import LEAST, MOST, start_losses
from fedledger.aggregator.round.methods import RoundMethods
from fedledger.aggregator.rules.aggregate import Outcome, Rows, aggregate
from fedledger.aggregator.rules.base import RULES
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.methods.catalogue import Method, VectorSpec
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.spec import JudgementSpec, TaskSpec
from fedledger.protocol.records.update import DELTA, START_LOSS
from support.examples import examples
from support.rules import CLAIMING

LOSSES = st.lists(st.integers(-(1 << 30), 1 << 30), min_size=1, max_size=12)


def run(name: str, rows: np.ndarray, losses: list[float], weights: list[int] | None = None, **params: Any) -> Outcome:
    stage = a_round(rows, start_losses=[round(loss * POINT.unit) for loss in losses])
    return aggregate(build(RULES, name, params), Rows(rows, weights or [1] * len(rows)), POINT.unit, None, stage)


def fractions(outcome: Outcome) -> list[float]:
    coefficients = outcome.diagnostics["coefficients"]
    return [each / sum(coefficients) for each in coefficients]


# -- claims ------------------------------------------------------------------------------------------------------


@examples(100)
@given(LOSSES)
def test_a_claim_counts_within_bounds_that_the_median_sets(claims: list[int]) -> None:
    rows = np.zeros((len(claims), 1), np.int64)
    losses, median = start_losses(a_round(rows, start_losses=claims), range(len(claims)))
    assert median == max(1, sorted(claims)[(len(claims) - 1) // 2])
    for claim, loss in zip(claims, losses, strict=True):
        assert 0 < Fraction(median, LEAST) <= loss <= MOST * median
        assert loss == claim or claim < loss <= median // LEAST + 1 or claim > loss == MOST * median


@examples(60)
@given(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.75, 5.0]))
def test_one_liar_has_no_more_of_q_ffl_than_is_said(seed: int, n: int, q: float) -> None:
    """Whatever the honest ones lose; where all lose the same, a liar has nearly the bound of claims."""
    rng = np.random.default_rng(seed)
    rows, losses = hostile(seed, n, 0), rng.lognormal(0, 2, n).tolist()
    losses[0] = 1e4
    share = fractions(run("q_ffl@1", rows, losses, q=q, learning_rate=1e12))[0]
    assert share <= 2**q / (2**q + n // 2) + 1e-9
    alike = fractions(run("q_ffl@1", rows, [1e4, *[1.0] * (n - 1)], q=q, learning_rate=1e12))[0]
    assert alike == pytest.approx(2**q / (2**q + n - 1), abs=1e-9)


@examples(30)
@given(st.integers(0, 2**32), st.integers(2, 12), st.sampled_from([1.0, 1.5, 2.0, 4.0]))
def test_whatever_is_claimed_for_however_long_agnostic_gives_at_most_so_much(seed: int, n: int, most: float) -> None:
    rng, rule, memory = np.random.default_rng(seed), build(RULES, "agnostic@1", {"step": 0.5, "most": most}), {}
    rows, weights = hostile(seed, n, 0), [int(weight) for weight in rng.integers(1, 1 << 20, n)]
    for _ in range(12):
        claims = [1 << 50, *(int(loss) for loss in rng.integers(1, 1 << 26, n - 1))]
        stage = a_round(rows, start_losses=claims, memory=memory)
        outcome = aggregate(rule, Rows(rows, weights), POINT.unit, None, stage)
        shares = np.array(fractions(outcome))
        assert (shares <= most * np.array(weights) / sum(weights) + 1e-6).all()
        memory = rule.remember(stage, weights)
        assert [int(memory[owner][0]) for owner in stage.owners] == outcome.diagnostics["multipliers"]
    # Who always claims most ends at the limit, unless its weight alone is more than that allows.
    assert shares[0] == pytest.approx(min(most * weights[0] / sum(weights), 1), rel=1e-5)


# -- q-FFL -------------------------------------------------------------------------------------------------------


@examples(60)
@given(st.integers(0, 2**32), st.integers(1, 10), st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 5.0]), st.booleans())
def test_q_ffl_follows_the_paper(seed: int, n: int, q: float, is_weighted: bool) -> None:
    """Algorithm 2 in floating point; losses lie within the bounds of claims."""
    rng, rate = np.random.default_rng(seed), 0.25
    updates, losses = rng.normal(size=(n, 6)), rng.uniform(0.8, 1.2, n)
    weights = rng.integers(1, 1 << 20, n) if is_weighted else np.ones(n, np.int64)
    rows, grown = fixed(updates), weights / weights.sum()
    gradients = -(rows / POINT.unit) / rate
    deltas = grown[:, None] * losses[:, None] ** q * gradients
    curvatures = grown * (q * losses ** (q - 1) * (gradients**2).sum(axis=1) + losses**q / rate)
    found = run("q_ffl@1", rows, losses.tolist(), weights.tolist(), q=q, learning_rate=rate)
    np.testing.assert_allclose(found.delta / POINT.unit, -deltas.sum(axis=0) / curvatures.sum(), atol=3e-7)


def test_q_ffl_by_hand() -> None:
    """With F = 1 and 2, lengths 1 and L = 1: Δ = (1, 2), h = (1 + 1, 1 + 2); q = 1/2 takes 2 + 1/2 more terms."""
    rows = fixed([[1.0, 0.0], [0.0, 1.0]])
    found = run("q_ffl@1", rows, [1.0, 2.0], q=1.0, learning_rate=1.0).delta / POINT.unit
    np.testing.assert_allclose(found, [1 / 5, 2 / 5], atol=1e-7)
    root = 2**0.5
    found = run("q_ffl@1", rows, [1.0, 2.0], q=0.5, learning_rate=1.0).delta / POINT.unit
    np.testing.assert_allclose(found, np.array([1, root]) / (1 + 0.5 + root + 0.5 / root), atol=1e-7)


@examples(20)
@given(st.integers(0, 2**32))
def test_q_ffl_without_fairness_is_the_mean(seed: int) -> None:
    rows = hostile(seed, 7, 2)
    weights = [1 << 20, *range(1, 7)]
    found = run("q_ffl@1", rows, [3.0, 1, 4, 1, 5, 9, 2], weights, q=0.0)
    assert np.abs(found.delta - run("mean@1", rows, [1.0] * 7, weights).delta).max() <= np.abs(rows).max() / 2**35 + 1


@pytest.mark.parametrize("q", [0.1, 1 / 3, 5.25, -0.25])
def test_q_is_in_quarters(q: float) -> None:
    with pytest.raises(ConfigError):
        build(RULES, "q_ffl@1", {"q": q})


# -- agnostic federated learning -----------------------------------------------------------------------------------


@examples(40)
@given(
    st.integers(0, 2**32), st.integers(1, 8), st.sampled_from([1.0, 1.3, 2.0, 8.0]), st.sampled_from([0.1, 1.0, 5.0])
)
def test_the_mixture_is_the_nearest_one(seed: int, n: int, most: float, step: float) -> None:
    """Against a general solver of quadratic programmes."""
    rng = np.random.default_rng(seed)
    losses, weights = rng.uniform(0.8, 1.2, n), rng.integers(1, 1000, n)
    grown = weights / weights.sum()
    found = run("agnostic@1", hostile(seed, n, 0), losses.tolist(), weights.tolist(), most=most, step=step)
    aim = 1 + step * losses / sorted(losses)[(n - 1) // 2]
    best = minimize(
        lambda m: grown @ (m - aim) ** 2,
        np.ones(n),
        jac=lambda m: 2 * grown * (m - aim),
        bounds=[(0, most)] * n,
        constraints={"type": "eq", "fun": lambda m: grown @ m - 1, "jac": lambda m: grown},
        options={"ftol": 1e-14, "maxiter": 1000},
    ).x
    np.testing.assert_allclose(np.array(found.diagnostics["multipliers"]) / (1 << 30), best, atol=2e-4)


def test_agnostic_finds_the_model_whose_largest_loss_is_least() -> None:
    """Three participants with F_k(w) = 1 + (w − a_k)² at a = 0, 0 and 4: the mean is 4/3, the minimax model 2."""
    targets, rule = np.array([0.0, 0.0, 4.0]), build(RULES, "agnostic@1", {"step": 0.05, "most": 3.0})
    model, memory, path = 0.0, {}, []
    for _ in range(1500):
        rows = fixed(0.1 * (targets - model)[:, None])
        claims = [round(loss * POINT.unit) for loss in 1 + (model - targets) ** 2]
        stage = a_round(rows, start_losses=claims, memory=memory)
        model += float(aggregate(rule, Rows(rows, [1] * 3), POINT.unit, None, stage).delta[0]) / POINT.unit
        memory = rule.remember(stage, [1] * 3)
        path.append(model)
    assert np.mean(path[500:]) == pytest.approx(2, abs=0.1)


def test_who_is_absent_keeps_a_multiplier_and_a_strange_state_does_no_harm() -> None:
    rows = fixed([[1.0], [2.0], [3.0]])
    rule, unit = build(RULES, "agnostic@1", {}), POINT.unit
    first = rule.remember(a_round(rows, start_losses=[unit, unit, 2 * unit]), [1, 1, 1])
    after = rule.remember(a_round(rows, start_losses=[unit] * 3, memory=first), [0, 1, 1])
    owners = a_round(rows).owners
    assert after[owners[0]] == first[owners[0]] and rule.memory_size(3, 1000) == 3
    for odd in (1 << 62, -(1 << 62)):
        memory = {owner: np.array([odd]) for owner in owners}
        stage = a_round(rows, start_losses=[unit] * 3, memory=memory)
        found = aggregate(rule, Rows(rows, [1] * 3), unit, None, stage)
        assert fractions(found) == pytest.approx([1 / 3] * 3, abs=1e-6)
    with pytest.raises(ConfigError, match="another rule"):
        rule.remember(a_round(rows, start_losses=[unit] * 3, memory={owners[0]: np.zeros(2, np.int64)}), [1, 1, 1])


# -- FedMGDA+ ----------------------------------------------------------------------------------------------------


@examples(40)
@given(st.integers(0, 2**32), st.integers(1, 8), st.sampled_from([0.0, 0.3, 1.0, 100.0]), st.integers(1, 12))
def test_fedmgda_is_the_shortest_mixture(seed: int, n: int, radius: float, d: int) -> None:
    """Against a general solver of quadratic programmes."""
    rng = np.random.default_rng(seed)
    rows, weights = fixed(rng.normal(size=(n, d)) + rng.normal(size=d)), rng.integers(1, 1000, n)
    lengths, grown = np.linalg.norm(rows.astype(float), axis=1), weights / weights.sum()
    directions = rows / lengths[:, None]
    best = minimize(
        lambda part: ((part @ directions) ** 2).sum(),
        grown,
        jac=lambda part: 2 * directions @ (part @ directions),
        bounds=[(max(0, p * (1 - radius)), min(1, p * (1 + radius))) for p in grown],
        constraints={"type": "eq", "fun": lambda part: part.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-15, "maxiter": 1000},
    ).x
    length = sorted(lengths)[(n - 1) // 2]
    found = run("fedmgda@1", rows, [1.0] * n, weights.tolist(), radius=radius)
    shortest, reached = np.linalg.norm(best @ directions), np.linalg.norm(found.delta / length)
    # The solver may stop early, and is never better than what is least.
    assert reached <= shortest + 1e-6
    np.testing.assert_allclose(found.delta / length, best @ directions, atol=2e-3)
    shares = np.array(found.diagnostics["coefficients"]) / (1 << 40) * lengths / length
    assert (np.abs(shares - grown) <= radius * grown + 1e-9).all() and shares.sum() == pytest.approx(1)


@examples(40)
@given(st.integers(0, 2**32), st.integers(2, 9))
def test_within_all_mixtures_nobodys_loss_grows(seed: int, n: int) -> None:
    """The shortest point of a hull has a product of at least its own square with every direction."""
    rng = np.random.default_rng(seed)
    rows = fixed(rng.normal(size=(n, 5)) + 0.7 * rng.normal(size=5))
    found = run("fedmgda@1", rows, [1.0] * n, radius=4096.0).delta / POINT.unit
    lengths = np.linalg.norm(rows / POINT.unit, axis=1)
    common, directions = found / sorted(lengths)[(n - 1) // 2], rows / POINT.unit / lengths[:, None]
    assert (directions @ common >= common @ common - 1e-5).all()


def test_fedmgda_by_hand() -> None:
    """Orthogonal directions share alike; those that contradict each other leave the model where it is."""
    found = run("fedmgda@1", fixed([[2.0, 0.0], [0.0, 8.0]]), [1.0] * 2)
    np.testing.assert_allclose(found.delta / POINT.unit, [1.0, 1.0], atol=1e-7)
    assert not run("fedmgda@1", fixed([[2.0, 0.0], [-8.0, 0.0]]), [1.0] * 2).delta.any()
    assert not run("fedmgda@1", np.zeros((3, 2), np.int64), [1.0] * 3).delta.any()


def test_lengths_and_updates_without_direction_count_for_nothing() -> None:
    rng = np.random.default_rng(4)
    rows = fixed(rng.normal(size=(6, 4)) + 1)
    found = run("fedmgda@1", rows, [1.0] * 6).delta
    longer = rows.copy()
    longer[0] *= 3
    lengths = np.linalg.norm(rows.astype(float), axis=1), np.linalg.norm(longer.astype(float), axis=1)
    scale = sorted(lengths[1])[2] / sorted(lengths[0])[2]
    np.testing.assert_allclose(run("fedmgda@1", longer, [1.0] * 6).delta, scale * found, rtol=1e-6, atol=4)
    for none in ([0, 0, 0, 0], [1, 0, 0, 0]):
        idle = run("fedmgda@1", np.vstack([rows, none]), [1.0] * 7).delta
        middle = sorted([*lengths[0], *([1] if any(none) else [])])[(5 + any(none)) // 2]
        np.testing.assert_allclose(idle, found * (middle / sorted(lengths[0])[2]), rtol=1e-6, atol=4)


# -- what a spec has to say ----------------------------------------------------------------------------------------


def spec(**changes: Any) -> TaskSpec:
    ref = Ref.of(ContentRef.of(b"x"))
    return TaskSpec(name="fair", rounds=1, initial_model=ref, validation=ref, **changes)


TOLD = {"vectors": [START_LOSS], "payload": [VectorSpec(name=DELTA), VectorSpec(name=START_LOSS, length=1)]}


@pytest.mark.parametrize("rule", sorted(CLAIMING))
def test_a_spec_has_to_carry_claims_and_to_let_them_count(rule: str) -> None:
    aggregation = Method(method=rule)
    for lacking in (
        {},
        {"vectors": [START_LOSS]},
        TOLD | {"payload": [VectorSpec(name=DELTA), VectorSpec(name=START_LOSS)]},
    ):
        with pytest.raises(ConfigError, match='carry the vector "start_loss" of length 1'):
            RoundMethods.of(spec(aggregation=aggregation, **lacking))
    RoundMethods.of(spec(aggregation=aggregation, **TOLD))
    with pytest.raises(ConfigError, match='losses = "median"'):
        RoundMethods.of(spec(aggregation=aggregation, judgement=JudgementSpec(), **TOLD))
    RoundMethods.of(spec(aggregation=aggregation, judgement=JudgementSpec(losses="median"), **TOLD))
    RoundMethods.of(spec(aggregation=Method(method="fedmgda@1"), judgement=JudgementSpec()))
    with pytest.raises(ConfigError, match="do not tell"):
        rows = hostile(1, 5, 0)
        stage = replace(a_round(rows), start_losses=())
        aggregate(build(RULES, rule, {}), Rows(rows, [1] * 5), POINT.unit, None, stage)


def test_older_specs_keep_their_bytes() -> None:
    assert "losses" not in spec(judgement=JudgementSpec()).model_dump()["judgement"]
    assert spec(judgement=JudgementSpec(losses="median")).model_dump()["judgement"]["losses"] == "median"
