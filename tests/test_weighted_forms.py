"""Rules and mixings that weigh: equal weights change nothing, ties favour nobody, and what the documents say holds."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rules import POINT, a_round, hostile

from fedledger.aggregator.context.geometry import shared_places, squared_distances
from fedledger.aggregator.mixings.base import MIXINGS
from fedledger.aggregator.mixings.mixture import Mixture
from fedledger.aggregator.rules.aggregate import Outcome, Rows, aggregate
from fedledger.aggregator.rules.base import RULES
from fedledger.protocol.arithmetic.exact import OutOfRangeError, gram
from fedledger.protocol.methods.parameters import build
from support.documents import ROOT
from support.examples import examples
from support.rules import DEFAULTS, NNM, WEIGHTED_NNM

MIXED = ("mean@1", "median@1", "trimmed_mean@1", "multi_krum@1", "geometric_median@1", "centred_clipping@1")
WEIGHTS = st.lists(st.integers(1, 1 << 20), min_size=9, max_size=9)
DOCUMENTED = {
    rule
    for line in re.findall(r"^\| no \|(.*)\|$", (ROOT / "docs/methods.md").read_text(), re.MULTILINE)
    for rule in re.findall(r"`(\w+@\d+)`", line.split("|")[0])
}


def run(rule: str, rows: np.ndarray, weights: list[int], mixing: str | None = None, **params: int) -> Outcome:
    mixer = None if mixing is None else build(MIXINGS, mixing, {"f": 2})
    given_ = Rows(rows, weights, np.zeros(rows.shape[1], np.int64))
    return aggregate(build(RULES, rule, DEFAULTS[rule] | params), given_, POINT.unit, mixer, a_round(rows))


@examples(40)
@given(st.integers(0, 2**32), st.integers(1, 1 << 20), st.integers(1, 8))
def test_multi_krum_with_equal_weights_is_that_without(seed: int, weight: int, m: int) -> None:
    rows = hostile(seed, 9, 2)
    first, second = (run(f"multi_krum@{version}", rows, [weight] * 9, m=m) for version in (1, 2))
    # Of copies that tie for the last place, the first version takes one.
    assert set(first.diagnostics["selected"]) <= set(second.diagnostics["selected"])
    assert first.delta.tolist() == second.delta.tolist()


@examples(60)
@given(st.integers(0, 2**32), st.integers(1, 1 << 20), st.sampled_from(MIXED))
def test_mixing_with_equal_weights_is_that_without(seed: int, weight: int, rule: str) -> None:
    rows = hostile(seed, 9, 2)
    first, second = (run(rule, rows, [weight] * 9, mixing) for mixing in (NNM, WEIGHTED_NNM))
    assert first.delta.tolist() == second.delta.tolist()


@examples(40)
@given(st.integers(0, 2**32), WEIGHTS, st.integers(1, 8))
def test_multi_krum_averages_what_it_selects_by_weight(seed: int, weights: list[int], m: int) -> None:
    rows = hostile(seed, 9, 0)
    chosen = run("multi_krum@1", rows, weights, m=m).diagnostics["selected"]
    total = sum(weights[i] for i in chosen)
    expected = [round(Fraction(sum(weights[i] * int(rows[i, k]) for i in chosen), total)) for k in range(rows.shape[1])]
    assert run("multi_krum@2", rows, weights, m=m).delta.tolist() == expected


@examples(60)
@given(st.integers(0, 2**32), WEIGHTS, st.sampled_from([0, 12, 40]))
def test_mixed_rows_are_weighted_means_of_the_nearest(seed: int, weights: list[int], bits: int) -> None:
    """Against fractions: the rows, their inner products, and combinations of them."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-(1 << bits), 1 << bits, (9, 4), np.int64, endpoint=True)
    mixing, products = build(MIXINGS, WEIGHTED_NNM, {"f": 2}), gram(rows)
    mixture = Mixture.of(mixing, products, weights)
    means = []
    for distances in squared_distances(products).tolist():
        parts = [Fraction(part) for part in shared_places(distances, weights, 7)]
        means.append([sum(p * int(x) for p, x in zip(parts, column, strict=True)) / sum(parts) for column in rows.T])
    assert mixture.rows(rows).tolist() == [[round(7 * x) for x in mean] for mean in means]
    inner = [[sum(49 * x * y for x, y in zip(a, b, strict=True)) for b in means] for a in means]
    assert mixture.gram(products).tolist() == [[round(value) for value in row] for row in inner]
    coefficients, denominator = mixture.combined([3, 0, 1, 2, 5, 0, 1, 1, 4], 17)
    combined = np.array(coefficients, object) @ rows.astype(object)
    for found, column in zip(combined, zip(*means, strict=True), strict=True):
        exact = sum(c * x for c, x in zip([3, 0, 1, 2, 5, 0, 1, 1, 4], column, strict=True)) / 17
        assert abs(Fraction(found, denominator) - exact) <= Fraction(81 << bits, 1 << 40)


@examples(80)
@given(st.integers(0, 2**32), WEIGHTS, st.sampled_from(["multi_krum@2", "mean@1", "median@1", "weighted_median@1"]))
def test_the_order_of_rows_does_not_matter_though_many_tie(seed: int, weights: list[int], rule: str) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, (9, 2)) * 1000
    order = rng.permutation(9)
    mixing = None if rule == "multi_krum@2" else WEIGHTED_NNM
    first = run(rule, rows, weights, mixing)
    assert run(rule, rows[order], [weights[i] for i in order], mixing).delta.tolist() == first.delta.tolist()


def test_what_ties_for_the_last_places_shares_them() -> None:
    assert shared_places([5, 1, 5, 5, 9], [10, 20, 30, 40, 50], 2) == [10, 60, 30, 40, 0]
    assert shared_places([3, 2, 1], [7, 8, 9], 2) == [0, 8, 9]
    assert shared_places([4], [6], 1) == [6]


def test_a_copy_that_ties_gains_nothing() -> None:
    """Two equal rows that tie for one place have it together."""
    rows = np.array([[0, 0], [2, 0], [0, 2], [30, 0], [30, 0]], np.int64) * POINT.unit
    given_ = run("multi_krum@2", rows, [1] * 5, f=0, m=4)
    assert given_.diagnostics["coefficients"] == [2, 2, 2, 1, 1]


def test_weights_that_cannot_be_summed_are_refused() -> None:
    with pytest.raises(OutOfRangeError, match="Scale the weights down"):
        run("median@1", hostile(1, 9, 2), [1 << 40, *[1] * 8], WEIGHTED_NNM)


@pytest.mark.parametrize("rule", sorted(DEFAULTS))
def test_the_documents_tell_which_rules_ignore_weights(rule: str) -> None:
    rows = hostile(3, 9, 0, d=60) - hostile(3, 9, 0, d=60).mean(axis=0).astype(np.int64)
    equal = run(rule, rows, [1] * 9).delta
    changed = any(
        (run(rule, rows, [1 << 20 if i == heavy else 1 for i in range(9)]).delta != equal).any() for heavy in range(9)
    )
    assert changed == (rule not in DOCUMENTED)


@pytest.mark.parametrize(("mixing", "weighs"), [(NNM, False), (WEIGHTED_NNM, True)])
def test_the_documents_tell_which_mixing_ignores_weights(mixing: str, weighs: bool) -> None:
    rows = hostile(3, 9, 0)
    equal, uneven = (run("median@1", rows, weights, mixing).delta for weights in ([1] * 9, [*[1] * 8, 1000]))
    assert (equal != uneven).any() == weighs == (mixing not in DOCUMENTED)
