"""Bucketing: means of random groups, exactly, before any rule."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rules import POINT, a_round, hostile

from fedledger.aggregator.mixings.base import MIXINGS
from fedledger.aggregator.round.methods import RoundMethods, check_rows
from fedledger.aggregator.rules.aggregate import MAX_MIXED, Outcome, Rows, aggregate
from fedledger.aggregator.rules.base import RULES
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.chain.connection import EMBEDDED
from fedledger.ledger_tools.audit.audit import audit_run
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import load_config
from fedledger.platform.runs.plain_run import run_without_ledger
from fedledger.protocol.arithmetic.exact import LIMIT, OutOfRangeError
from fedledger.protocol.arithmetic.random_streams import Stream
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import ConfigError, RoundError
from fedledger.protocol.methods.catalogue import Method
from fedledger.protocol.methods.parameters import build
from fedledger.protocol.records.ref import Ref
from fedledger.protocol.records.spec import TaskSpec
from support.examples import examples
from support.rules import DEFAULTS
from support.small import run_small

LOOK_AT_UPDATES = {"agnostic", "dnc", "fltrust", "foolsgold", "q_ffl"}
"""Rules that score each update by itself."""


def run(name: str, rows: np.ndarray, s: int, weights: list[int] | None = None, **params: object) -> Outcome:
    given_ = Rows(rows, weights or [1] * len(rows), np.zeros(rows.shape[1], np.int64))
    rule = build(RULES, name, DEFAULTS[name] | params)
    return aggregate(rule, given_, POINT.unit, build(MIXINGS, "bucketing@1", {"s": s}), a_round(rows))


def groups(n: int, s: int) -> list[list[int]]:
    """Return the groups that the stream of the tests' round draws."""
    drawn = Stream(Stream(bytes(32)).bytes(32)).sample(range(n), n)
    return sorted(sorted(drawn[start : start + s]) for start in range(0, n, s))


@examples(60)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_medians_and_means_are_those_of_the_groups(seed: int, n: int, s: int, is_weighted: bool) -> None:
    """Against fractions: of equal weights nothing is rounded before the rule."""
    rows = hostile(seed, n, 0)
    weights = np.random.default_rng(seed).integers(1, 1000, n).tolist() if is_weighted else [5] * n
    members = groups(n, s)
    means = [
        [Fraction(sum(weights[i] * int(rows[i, k]) for i in group), sum(weights[i] for i in group)) for k in range(4)]
        for group in members
    ]
    found = run("median@1", rows, s, weights).delta.tolist()
    for k, value in enumerate(found):
        ordered = sorted(mean[k] for mean in means)
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        # Weighted means are rounded to a part of the group's size.
        assert abs(value - middle) <= Fraction(1, 2) + is_weighted
        assert is_weighted or value == round(middle)
    # A group weighs what its rows weigh together, so the mean of all is as without groups.
    total = sum(weights)
    exact = [round(Fraction(sum(w * int(x) for w, x in zip(weights, column, strict=True)), total)) for column in rows.T]
    assert np.abs(np.array(run("mean@1", rows, s, weights).delta) - exact).max() <= 1


# A supported mean expects the more hostile rows the more rows there are: see below.
@pytest.mark.parametrize("name", sorted(set(DEFAULTS) - {"supported_mean@1"}))
@pytest.mark.parametrize("s", [2, 3])
def test_bucketing_goes_before_any_rule_that_needs_no_update_by_itself(name: str, s: int) -> None:
    """The rule sees the groups' means: as it would see them as rows, in units of their common denominator."""
    rows = 6 * hostile(7, 20, 2, d=5)
    if name.partition("@")[0] in LOOK_AT_UPDATES and build(RULES, name, DEFAULTS[name]).needs_updates:
        with pytest.raises(ConfigError, match="makes fewer rows"):
            run(name, rows, s)
        return
    members = groups(20, s)
    means = np.array([rows[group].sum(axis=0) // len(group) for group in members])
    weights = [len(group) for group in members]
    unmixed = Rows(means, weights, np.zeros(5, np.int64))
    stage = a_round(means, trusted=rows[0])
    expected = aggregate(build(RULES, name, DEFAULTS[name]), unmixed, POINT.unit, None, stage)
    found = run(name, rows, s)
    np.testing.assert_allclose(found.delta, expected.delta, atol=40)
    assert found.diagnostics["rows"] == list(range(20)) and found.diagnostics["mixed"] == s


def test_refused_updates_are_taken_off_what_a_supported_mean_expects() -> None:
    """Of 20 updates 6 may be hostile; 2 are refused, so 4 groups may be, whatever their number."""
    rows = hostile(7, 20, 2)
    given_ = Rows(rows, [0, 0, *[1] * 18])
    mixer = build(MIXINGS, "bucketing@1", {"s": 2})
    found = aggregate(build(RULES, "supported_mean@1", {}), given_, POINT.unit, mixer, a_round(rows))
    assert found.diagnostics["spare"] == 4


def test_what_is_drawn_depends_on_the_round_alone() -> None:
    rows = hostile(1, 9, 2)
    first, again = (run("median@1", rows, 3).delta.tolist() for _ in range(2))
    other = aggregate(
        build(RULES, "median@1", {}),
        Rows(rows, [1] * 9),
        POINT.unit,
        build(MIXINGS, "bucketing@1", {"s": 3}),
        a_round(rows, draws=lambda: Stream(b"\1" * 32)),
    )
    assert first == again != other.delta.tolist()
    with pytest.raises(ConfigError, match="round's updates only"):
        aggregate(build(RULES, "mean@1", {}), Rows(rows, [1] * 9), 1, build(MIXINGS, "bucketing@1", {"s": 3}))


def test_groups_are_drawn_uniformly() -> None:
    """Each pair of six rows shares a group of two once in five draws."""
    together = np.zeros((6, 6))
    mixing = build(MIXINGS, "bucketing@1", {"s": 2})
    for seed in range(3000):
        drawn = mixing.drawn(lambda seed=seed: Stream(seed.to_bytes(32, "big")))
        found = drawn.coefficients(np.zeros((0, 0), np.int64), [1] * 6)
        together += found.T @ found
    pairs = together[np.triu_indices(6, 1)]
    assert (np.abs(pairs - 600) < 5 * np.sqrt(600 * 0.8)).all()


def test_the_rule_needs_enough_groups() -> None:
    """Of 12 rows there are 4 groups of 3: too few for a Meamed with f = 2, which needs 13."""
    rows = hostile(3, 13, 0)
    with pytest.raises(RoundError, match="meamed@1 with f = 2 needs 13 updates that count; there are 12"):
        run("meamed@1", rows[:12], 3)
    assert run("meamed@1", rows, 3).delta.shape == (4,)
    ref = Ref.of(ContentRef.of(b"x"))
    spec = TaskSpec(
        name="a",
        rounds=1,
        initial_model=ref,
        validation=ref,
        aggregation=Method(method="meamed@1", params={"f": 2}),
        mixing=Method(method="bucketing@1", params={"s": 3}),
    )
    assert RoundMethods.of(spec).least_rows == 13
    check_rows(spec, 13)
    with pytest.raises(ConfigError, match="meamed@1 with f = 2 needs 13"):
        check_rows(spec, 12)
    suited = spec.model_copy(update={"aggregation": Method(method="dnc@1", params={"f": 2})})
    with pytest.raises(ConfigError, match="dnc@1 looks at each update by itself"):
        RoundMethods.of(suited)


@pytest.mark.parametrize("s", [1, 63, 65, 1500, 4096])
def test_the_largest_values_of_many_rows_do_not_overflow(s: int) -> None:
    rows, weights = np.full((MAX_MIXED, 1), -LIMIT, np.int64), [1 << 20] * MAX_MIXED
    given_, stage = Rows(rows, weights, gram=np.zeros((MAX_MIXED, MAX_MIXED), np.int64)), a_round(rows)
    for name in ("median@1", "weighted_trimmed_mean@1"):
        mixer = build(MIXINGS, "bucketing@1", {"s": s})
        found = aggregate(build(RULES, name, DEFAULTS[name]), given_, 1, mixer, stage)
        assert found.delta.tolist() == [-LIMIT]
    with pytest.raises(OutOfRangeError, match="Scale the weights down"):
        run("mean@1", hostile(1, 9, 2), 2, [1 << 40, *[1] * 8])


@pytest.mark.long
@pytest.mark.parametrize(
    ("normalisation", "mixing", "rule"),
    [
        ("arc@1", ("bucketing@1", {"s": 2}), ("flame@1", {"noise": 0.01})),
        ("norm_clip@1", ("nearest_neighbour_mixing@3", {"f": 1}), ("monna@1", {"f": 1})),
        ("arc@1", ("bucketing@1", {"s": 2}), ("caf@1", {"f": 1})),
        ("norm_clip@1", ("bucketing@1", {"s": 2}), ("mda@1", {"f": 1})),
    ],
)
def test_rounds_with_what_is_drawn_are_audited_and_the_same_without_a_ledger(
    tmp_path: Path, normalisation: str, mixing: tuple[str, dict], rule: tuple[str, dict]
) -> None:
    def toml(name: str, params: dict) -> str:
        given_ = ", ".join(f"{key} = {value}" for key, value in params.items())
        return f'{{ method = "{name}", params = {{ {given_} }} }}'

    clip = toml(normalisation, {"f": 1} if normalisation == "arc@1" else {"norm": 0.5})
    extra = f"normalisation = {clip}\nmixing = {toml(*mixing)}\naggregation = {toml(*rule)}\n"
    made = run_small(tmp_path, Chain(EMBEDDED), participants=6, rounds=2, extra=extra)
    result = audit_run(tmp_path)
    assert result.reproduced and result.rounds == 2
    folder = tmp_path / "plain"
    folder.mkdir()
    plain = run_without_ledger(make_experiment(load_config(tmp_path / "config.toml"), tmp_path), folder, "serial")
    assert plain["final_model"] == made.summary["final_model"]
